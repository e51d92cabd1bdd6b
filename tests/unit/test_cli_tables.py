"""Tables on standard output: on a terminal as wide as that, elsewhere whole."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner
from terms import terms_text

from worker.cli import client, migrations
from worker.cli.migrations import list_, status
from worker.errors import Rejected
from worker.inventory import Inventory
from worker.journal import Journal, Record, connect
from worker.runtime import Runtime
from worker.settings import Settings

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


def listed(*arguments: str) -> list[str]:
    """The rows of ``vmrelay list``."""
    return CliRunner().invoke(list_, arguments, catch_exceptions=False).output.splitlines()[1:]


@pytest.fixture
def waiting(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Journal]:
    """A journal with one migration from alpha to beta, and an agent on alpha."""
    settings = Settings(redis_url=redis_url, hosts={"alpha": {"uri": "vzsim:///none"}})  # type: ignore[dict-item]
    with connect(redis_url) as redis:
        journal = Journal(redis)
        parts = Runtime(settings, Inventory(settings), journal)
        monkeypatch.setattr(client, "journal", lambda: journal)
        monkeypatch.setattr(migrations, "runtime", lambda: parts)
        journal.lease("alpha", {"incarnation": "alpha"}, 60)
        fields = {"domain": "web", "uuid": "u", "source": "alpha", "destination": "beta"}
        journal.submit("m", fields, {"domain": "web", "source": "alpha", "destination": "beta"}, "b", terms_text(1, 1))
        yield journal


@pytest.mark.parametrize(
    ("card", "why"),
    [
        ({}, "slots"),
        ({"draining": True}, "beta: its agent drains"),
        ({"answers": False}, "beta: its hypervisor does not answer"),
        (None, "beta: its agent is away"),
    ],
)
def test_what_waits_says_for_what(waiting: Journal, card: dict[str, object] | None, why: str) -> None:
    """Over all reasons: `status` and `list` name the host and what is wrong with it."""
    if card is not None:
        waiting.lease("beta", {"incarnation": "beta"} | card, 60)
    assert json.loads(CliRunner().invoke(status, ["m", "-o", "json"]).output)["waits_for"] == why
    shown = CliRunner().invoke(status, ["m"]).output.splitlines()
    assert [line.split(maxsplit=2)[2] for line in shown if line.startswith(" waits for")] == [why]
    assert listed()[0].endswith(f"  {why}")


def test_the_list_shows_how_long_a_running_one_takes(waiting: Journal) -> None:
    """Seconds count from its start; one that waits has none."""
    assert "." not in listed()[0]
    waiting.admit("m", 1, "b", terms_text(1, 1))
    waiting.client.hincrby("vmrelay:m:m", "started", -90_000)
    *_, seconds = listed()[0].split()
    assert 88 < float(seconds) < 120


def test_seconds_stand_still_at_the_end() -> None:
    """What ended took what it took, be it nothing; what is in doubt is not going on."""
    assert Record("m", "ended", started=1000, ended=1000).seconds_until(9) == 0
    assert Record("m", "active", started=1000).seconds_until(9) == 8
    assert Record("m", "in-doubt", started=1000).seconds_until(9) is None
    assert Record("m", "pending").seconds_until(9) is None


def test_a_list_of_an_unknown_host_is_refused(waiting: Journal) -> None:
    """A misspelt host is not one without migrations."""
    assert listed("--host", "alpha")[0].startswith("m ")
    with pytest.raises(Rejected, match="unknown host 'nosuch'"):
        listed("--host", "nosuch")


FILTERED = {
    ("--state", "pending"): True,
    ("--state", "running", "--state", "ended"): False,
    ("--outcome", "failed"): False,
    ("--domain", "web"): True,
    ("--domain", "u"): True,
    ("--batch", "b1"): False,
    ("--requested-by", "ann"): False,
    ("--state", "pending", "--domain", "db"): False,
}


@pytest.mark.parametrize("arguments", FILTERED, ids=" ".join)
def test_a_list_shows_what_was_asked_for(waiting: Journal, arguments: tuple[str, ...]) -> None:
    """By state, outcome, domain, batch and requester, all of them at once."""
    assert bool(listed(*arguments)) == FILTERED[arguments]


def test_a_long_list_is_read_page_by_page(waiting: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as it is wanted, newest first."""
    monkeypatch.setattr(migrations, "AT_ONCE", 2)
    for number in range(7):
        waiting.client.hset(f"vmrelay:m:{number}", mapping={"state": "ended", "created": str(number)})
        waiting.client.zadd("vmrelay:all", {str(number): number})
    assert [row.split()[0] for row in listed("-n", "5")] == ["m", "6", "5", "4", "3"]
    assert len(listed()) == 8


def test_a_migration_is_found_by_the_beginning_of_its_id(waiting: Journal) -> None:
    """Of four letters and more, where only one has it."""
    for ident in ("abcd-1", "abcd-2", "abce"):
        waiting.refuse(ident, {"domain": "x", "reason": "r", "error": "e"}, 60, {})
    assert migrations.find("abcd-1").id == "abcd-1"
    assert migrations.find("abce").id == "abce"
    for wrong, why in (("abcd", "2 migrations begin"), ("abc", "no migration"), ("abc*", "no migration")):
        with pytest.raises(Rejected, match=why):
            migrations.find(wrong)


def test_what_cannot_go_on_says_for_which_host(waiting: Journal) -> None:
    """An attempt that waits for a host shows it, since when and why, and what can be done."""
    waiting.admit("m", 1, "b", terms_text(1, 1))
    assert waiting.waiting("m", 1, "beta", "its agent is away")
    document = json.loads(CliRunner().invoke(status, ["m", "-o", "json"]).output)
    assert document["waits_for"].startswith("beta since ")
    assert document["waiting"]["host"] == "beta"
    shown = CliRunner().invoke(status, ["m"]).output
    assert shown.count("beta since ") == 1
    assert "if beta is off for good: vmrelay resolve m --assume-dead beta" in shown
    assert "begin (waits)" in listed()[0]
    assert listed()[0].endswith(": its agent is away")
