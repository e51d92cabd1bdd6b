"""What the command says beside an error whose words are a hypervisor's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import click
import pytest
from click.testing import CliRunner

from worker.cli import batch, progress
from worker.cli.main import Commands
from worker.cli.options import parameters
from worker.cli.rebalance import rebalance
from worker.errors import Rejected
from worker.hints import HINTS, hint
from worker.hypervisors.base import DomainState
from worker.hypervisors.checks import check_migration
from worker.hypervisors.checks.qemu_domain import check_safe
from worker.hypervisors.checks.request import read_request
from worker.hypervisors.flags import MigrateFlag
from worker.journal import Record

POSTCOPY = "internal error: unable to execute QEMU command 'migrate-set-capabilities': Postcopy is not supported"
CASES = [
    ("VIR_ERR_MIGRATE_UNSAFE", "Migration without shared storage is unsafe", "--copy-storage-all"),
    ("VIR_ERR_MIGRATE_UNSAFE", "Migration may lead to data corruption if disks use cache other than none", "cache="),
    ("VIR_ERR_INTERNAL_ERROR", POSTCOPY, "vm.unprivileged_userfaultfd=1"),
    ("VIR_ERR_OPERATION_FAILED", "domain 'a' already exists with uuid 1", "--dname"),
    ("name-taken", "beta has a domain 'a' already", "--dname"),
    ("cancelled", "cancelled before it started", ""),
    ("", "", ""),
]


@pytest.mark.parametrize(("code", "message", "said"), CASES)
def test_what_to_do(code: str, message: str, said: str) -> None:
    """The first fitting row is said, and nothing where none fits."""
    assert said in hint(code, message)
    assert bool(said) is bool(hint(code, message))


@pytest.mark.parametrize("row", HINTS)
def test_every_row_can_be_reached(row: tuple[str, str, str]) -> None:
    """No row hides a later one from an error that is just what the later one is for."""
    code, contains, text = row
    assert hint(code or "ANY", contains) == text


def test_the_options_that_are_named_exist() -> None:
    """A way out is one: each word with dashes is an option of `vmrelay migrate`, or of what makes a batch."""
    options = [*parameters(), *batch.run.params, *rebalance.params]
    known = {word for option in options for word in option.opts}
    named = {word.strip(",()") for row in HINTS for word in row.text.split() if word.startswith("--")}
    assert named <= known


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"compression.xbzrle.cache": 1 << 20}, "--comp-methods xbzrle"),
        ({"compression.mt.level": 1}, "--comp-methods mt"),
        ({"auto_converge.initial": 20}, "--auto-converge"),
        ({"parallel.connections": 2}, "--parallel"),
    ],
)
def test_what_our_own_checks_refuse_has_a_way_out(params: dict[str, int], said: str) -> None:
    """The words of the table are those that the checks use."""
    with pytest.raises(Rejected) as refusal:
        check_migration("qemu", MigrateFlag.LIVE, dict(params), DomainState.RUNNING)
    assert said in hint(refusal.value.code, refusal.value.message)


def test_a_disk_that_is_not_shared_has_a_way_out() -> None:
    """So do the words of the check for local disks."""
    with pytest.raises(Rejected) as refusal:
        check_safe(read_request({"hypervisor": "qemu", "api": "migrate3", "flags": ["LIVE"], "cfg": "disk"}))
    assert "--copy-storage-all" in hint(refusal.value.code, refusal.value.message)


def refusing(error: Rejected) -> Callable[[], None]:
    """A command that is refused."""

    def command() -> None:
        raise error

    return command


def test_the_command_says_it_after_the_error() -> None:
    """The message stays as it is, and what to do is a line of its own."""
    group = Commands(name="vmrelay")
    error = Rejected("Turn xbzrle compression on to tune it", code="VIR_ERR_INVALID_ARG")
    group.get_command = lambda ctx, name: click.Command("x", callback=refusing(error))  # type: ignore[method-assign]
    told = CliRunner().invoke(group, ["x"])
    assert told.stderr.splitlines() == [
        "error: Turn xbzrle compression on to tune it [VIR_ERR_INVALID_ARG]",
        "next: say --comp-methods xbzrle as well",
    ]
    assert told.exit_code == 2


def test_an_outcome_says_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    """A migration that failed for what the operator can mend ends with how."""
    failed = Record("m", "ended", domain="web", outcome="failed", reason="VIR_ERR_INTERNAL_ERROR", error=POSTCOPY)
    progress.say_outcome(failed)
    assert "next: QEMU needs userfaultfd on both hosts" in capsys.readouterr().err
    progress.say_outcome(replace(failed, error="it broke"))
    assert "next:" not in capsys.readouterr().err
