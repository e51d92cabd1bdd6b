"""Tables on standard output: on a terminal as wide as that, elsewhere whole."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from worker.cli import client
from worker.cli.migrations import list_, status
from worker.journal import Journal, connect

IDENT = "3f2a91c0-8a54-4d0e-9d86-2f6c2f6f0a11"
DOMAIN = "a-domain-with-a-rather-long-name-01"
HOSTS = ("hypervisor-one.example", "hypervisor-two.example")
CODE = "PRL_ERR_VM_MIGRATE_NOT_ENOUGH_CPUS_ON_TARGET"
WHY = "The target has too few processors for what this domain wants, " * 3


@pytest.fixture
def refused(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A journal with one migration that was refused."""
    with connect(redis_url) as redis:
        journal = Journal(redis)
        monkeypatch.setattr(client, "journal", lambda: journal)
        fields = {"domain": DOMAIN, "source": HOSTS[0], "destination": HOSTS[1], "reason": CODE, "error": WHY}
        journal.refuse(IDENT, fields, 60, {"outcome": "rejected", "error": WHY})
        yield


def test_what_a_program_reads_is_whole(refused: None) -> None:
    """Without a terminal nothing is cut or folded, however long it is: one line for each row."""
    listing = CliRunner(env={"COLUMNS": "40"}).invoke(list_, catch_exceptions=False).output.splitlines()
    assert listing[1].split() == [IDENT[:8], "rejected", DOMAIN, *HOSTS, "0", CODE]
    shown = CliRunner(env={"COLUMNS": "40"}).invoke(status, [IDENT, "--events"], catch_exceptions=False).output
    assert sum(WHY.strip() in line for line in shown.splitlines()) == 2


def test_on_a_narrow_terminal_the_error_gives_way(refused: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The id stays whole, since other commands want it."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    listing = CliRunner(env={"COLUMNS": "80", "TERM": "dumb"}).invoke(list_, catch_exceptions=False).output
    assert IDENT[:8] in listing
    assert CODE not in listing
    assert json.loads(CliRunner().invoke(list_, ["-o", "json"]).output)[0]["error"]["code"] == CODE
