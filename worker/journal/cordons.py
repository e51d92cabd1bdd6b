"""Which hosts take nothing, and where guests belong that a drain took away."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from worker.journal.record import Record, from_hash
from worker.journal.scripting import Scripts


@dataclass(frozen=True, slots=True)
class Cordon:
    """Why nothing is sent to a host."""

    by: str = ""
    """Who cordoned it, as the request said."""
    reason: str = ""
    """Why, as the request said."""
    at: int = 0
    """Since when, in milliseconds of Redis's clock."""
    batch: str = ""
    """The drain that cordoned it, or empties it now; empty where there is none."""
    settings: bool = False
    """The settings say so: nothing that runs can undo it."""

    @property
    def words(self) -> str:
        """By whom and why, as far as it is known: ``by ops: new DIMMs``."""
        return " ".join(filter(None, (f"by {self.by}" if self.by else "", f"({self.reason})" if self.reason else "")))

    def document(self) -> dict[str, Any]:
        """As users see it."""
        return asdict(self)


IN_SETTINGS = Cordon(by="the settings", settings=True)


@dataclass(frozen=True, slots=True)
class Home:
    """A guest that a drain took away from its host."""

    uuid: str
    domain: str
    host: str
    """Where it belongs."""
    to: str
    """Where the drain sent it."""
    batch: str
    at: int
    """Since when, in milliseconds of Redis's clock."""

    def document(self) -> dict[str, Any]:
        """As users see it."""
        return asdict(self)


class Cordons(Scripts):
    """Cordons and homes, in hashes of their own."""

    def cordon(self, host: str, by: str = "", reason: str = "", batch: str = "") -> bool:
        """Let nothing be sent to a host any more; false where that was so already (``cordon.lua``)."""
        return bool(self._run("cordon", host, by, reason, batch)[0] == "OK")

    def uncordon(self, host: str) -> bool:
        """Let it take domains again; false where it did (``uncordon.lua``)."""
        return bool(self._run("uncordon", host)[0] == "OK")

    def cordons(self) -> dict[str, Cordon]:
        """The hosts that were cordoned while everything runs."""
        return {host: Cordon(**json.loads(text)) for host, text in self.client.hgetall(self._key("cordons")).items()}

    def cordon_of(self, host: str) -> Cordon | None:
        """The same of one host."""
        text = self.client.hget(self._key("cordons"), host)
        return Cordon(**json.loads(text)) if text else None

    def turn_away(self, ident: str, end: Mapping[str, str], keep_seconds: int, by_settings: bool = False) -> bool:
        """End a migration that waits towards a cordoned host; false where it does not (``turnaway.lua``)."""
        told = json.dumps({"outcome": end["outcome"], "reason": end["reason"], "error": end["error"]})
        answer = self._run(
            "turnaway", ident, "settings" if by_settings else "", json.dumps(dict(end)), keep_seconds, told
        )
        return bool(answer[0] == "OK")

    def waiting_for(self, host: str) -> list[Record]:
        """The migrations towards a host that wait, for slots or for their next attempt."""
        idents = [*self.client.zrange(self._key("pending"), 0, -1), *self.client.zrange(self._key("due"), 0, -1)]
        pipe = self.client.pipeline(transaction=False)
        for ident in idents:
            pipe.hget(self._key("m", ident), "destination")
        there = [ident for ident, found in zip(idents, pipe.execute(), strict=True) if found == host]
        for ident in there:
            pipe.hgetall(self._key("m", ident))
        return [from_hash(ident, raw) for ident, raw in zip(there, pipe.execute(), strict=True) if raw]

    def homes(self, *hosts: str) -> list[Home]:
        """The guests that belong to these hosts (to any where none is named) and were drained from there, by name."""
        raw = self.client.hgetall(self._key("homes"))
        found = [Home(uuid=uuid, **json.loads(text)) for uuid, text in raw.items()]
        return sorted((home for home in found if not hosts or home.host in hosts), key=lambda home: home.domain)

    def forget_homes(self, *uuids: str) -> None:
        """These guests belong where they are."""
        if uuids:
            self.client.hdel(self._key("homes"), *uuids)
