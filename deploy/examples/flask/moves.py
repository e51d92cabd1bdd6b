"""Moves that were asked for, kept in SQLite, and what vmrelay says of them. Knows nothing of the web framework."""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from vmrelay_client import Client, Rejected, RelayError, Unavailable

log = logging.getLogger(__name__)

SCHEMA = """
CREATE TABLE IF NOT EXISTS moves (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE, -- made with the form, sent as idempotency key
    guest TEXT NOT NULL,
    destination TEXT NOT NULL,
    who TEXT NOT NULL,
    asked TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
    state TEXT NOT NULL DEFAULT 'unsent', -- and then the states of vmrelay_client.Migration
    detail TEXT NOT NULL DEFAULT '', -- why it was refused, failed, …
    migration TEXT NOT NULL DEFAULT ''
)
"""


@dataclass(frozen=True)
class Move:
    """One row. It outlives the relay's own memory of the migration."""

    id: int
    key: str
    guest: str
    destination: str
    who: str
    asked: str
    state: str
    detail: str
    migration: str

    @property
    def over(self) -> bool:
        """Whether nothing more becomes of it. In doubt is no end: an operator settles it."""
        return self.state in ("succeeded", "failed", "cancelled", "rejected")


@dataclass(frozen=True)
class Look:
    """How far a move is, for people."""

    move: Move
    percent: int
    text: str


class KeyTaken(Exception):
    """The key is that of another request."""


class Moves:
    """The table, and the client beside it. May be used by several threads and processes."""

    def __init__(self, database: Path, client: Client) -> None:
        self._database = database
        self._client = client
        with self._transaction() as db:
            db.execute(SCHEMA)

    # -- asking -----------------------------------------------------------------------------------

    def ask(self, key: str, who: str, guest: str, destination: str) -> Move:
        """Keep a move, once for each key. It is committed when this returns; only then may it be sent.

        Raises ``KeyTaken`` where the key belongs to something else.
        """
        wanted = (key, who, guest, destination)
        with self._transaction() as db:
            db.execute(
                "INSERT INTO moves (key, who, guest, destination) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO NOTHING",
                wanted,
            )
        move = self._all("key = ?", key)[0]
        if (move.key, move.who, move.guest, move.destination) != wanted:
            raise KeyTaken
        return move

    def send(self, move: Move) -> bool:
        """Ask vmrelay for it. False where it is away: the row stays unsent, and ``sync`` sends it again.

        Nobody knows whether a request arrived whose answer was lost. The key makes that harmless: sent again, it is
        the same migration. So is the second of a double click.
        """
        if move.state != "unsent":
            return True
        try:
            asked = self._client.migrate(move.guest, move.destination, idempotency_key=move.key, requested_by=move.who)
        except Unavailable as away:
            log.warning("move %d is not sent yet: %s", move.id, away)
            return False
        except Rejected as refused:
            self.note(move, "rejected", refused.message)
        else:
            self.note(move, asked.state, "", asked.id)
        return True

    # -- looking ----------------------------------------------------------------------------------

    def get(self, number: int) -> Move | None:
        """One move."""
        return next(iter(self._all("id = ?", number)), None)

    def of_migration(self, ident: str) -> Move | None:
        """The move that became this migration."""
        return next(iter(self._all("migration = ?", ident)), None)

    def last(self) -> list[Move]:
        """The last moves, newest first."""
        return self._all("1 ORDER BY id DESC LIMIT 50")

    def look(self, move: Move) -> Look:
        """Ask vmrelay how far it is, and keep what became of it."""
        if move.over or not move.migration:
            text = f"{move.state}: {move.detail}" if move.detail else move.state
            return Look(move, 100 if move.over else 0, text)
        try:
            seen = self._client.status(move.migration)
        except RelayError as lost:
            return Look(move, 0, f"no news ({lost}); the migration goes on without us")
        move = self.note(move, seen.state, seen.error.message if seen.error else "")
        return Look(move, seen.percent, f"{seen.state}: {seen.text}")

    def sync(self) -> None:
        """Send what could not be sent, and note what ended while nobody looked."""
        for move in self._all("state NOT IN ('succeeded', 'failed', 'cancelled', 'rejected') ORDER BY id"):
            if move.migration:
                self.look(move)
            elif not self.send(move):
                return  # it is away for the others, too

    def note(self, move: Move, state: str, detail: str, migration: str = "") -> Move:
        """Keep what was seen, unless the end was noted meanwhile: an older look must not cover it."""
        ident = migration or move.migration
        with self._transaction() as db:
            db.execute(
                "UPDATE moves SET state = ?, detail = ?, migration = ?"
                " WHERE id = ? AND state NOT IN ('succeeded', 'failed', 'cancelled', 'rejected')",
                (state, detail, ident, move.id),
            )
        return self.get(move.id) or replace(move, state=state, detail=detail, migration=ident)

    # -- SQLite -----------------------------------------------------------------------------------

    def _all(self, where: str, *values: object) -> list[Move]:
        with self._transaction() as db:
            return [Move(**row) for row in db.execute(f"SELECT * FROM moves WHERE {where}", values)]  # noqa: S608

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Commits at the end of the block, and rolls back where it raises."""
        with closing(sqlite3.connect(self._database, timeout=10)) as connection, connection:
            connection.row_factory = sqlite3.Row
            yield connection
