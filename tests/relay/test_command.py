"""The commands against a running relay; and the Procfile."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from honcho.environ import parse_procfile
from relay_lab import LARGE, VMRELAY, Relay

from worker.cli.main import COMMANDS, cli
from worker.leash import leashed

ROOT = Path(__file__).parents[2]


def test_json_of_every_reading_command(relay: Relay) -> None:
    """status, list, hosts, doctor and watch answer one JSON document each, and exit with 0."""
    record = relay.moved(relay.vm())
    short = record.id[:13]
    calls = {
        "status": ("status", short, "--events", "-o", "json"),
        "list": ("list", "-o", "json"),
        "ended": ("list", "--state", "ended", "--host", "beta", "-n", "2", "-o", "json"),
        "hosts": ("hosts", "-o", "json"),
        "doctor": ("doctor", "-o", "json"),
        "watch": ("watch", record.id, "-o", "json"),
    }
    with ThreadPoolExecutor(2) as pool:
        done = dict(zip(calls, pool.map(lambda words: relay.cli(*words), calls.values()), strict=True))
    assert {name: each.returncode for name, each in done.items()} == dict.fromkeys(calls, 0), done
    shown = {name: json.loads(each.stdout) for name, each in done.items()}
    assert shown["status"]["outcome"] == "succeeded"
    assert [event["type"] for event in shown["status"]["events"]][-1] == "ended"
    assert record.id in [each["id"] for each in shown["list"]]
    assert len(shown["ended"]) <= 2
    assert {host["name"]: host["agent"] for host in shown["hosts"]} == dict.fromkeys(("alpha", "beta", "gamma"), "up")
    assert {check["result"] for check in shown["doctor"]} <= {"ok", "warning"}
    assert shown["watch"]["id"] == record.id


def test_tables_for_people(relay: Relay) -> None:
    """The same without -o json names what matters."""
    record = relay.moved(relay.vm())
    calls = [("status", record.id, "--events"), ("list",), ("hosts", "--domains"), ("doctor",)]
    with ThreadPoolExecutor(2) as pool:
        status, listing, hosts, doctor = pool.map(lambda words: relay.cli(*words), calls)
    assert "confirm" in status.stdout
    assert record.id[:8] in listing.stdout
    assert record.domain in hosts.stdout
    assert "scheduler" in doctor.stdout
    assert not any("Traceback" in each.stderr for each in (status, listing, hosts, doctor))


def test_migrate_and_wait(relay: Relay) -> None:
    """`migrate --wait -o json` prints one document and exits with 0; events go to standard error."""
    name = relay.vm()
    done = relay.cli("migrate", name, "beta", "-o", "json", "--wait", "--suspend", "--requested-by", "me")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["outcome"] == "succeeded"
    assert document["requested_by"] == "me"
    assert {"flags", "attempts", "phases", "downtime_seconds"} <= document.keys()
    assert all({"name", "host", "seconds"} <= phase.keys() for phase in document["phases"])
    assert "perform on alpha" in done.stderr
    assert relay.where(name) == {"beta": "paused"}


def test_waiting_times_out_and_cancel_waits(relay: Relay) -> None:
    """Exit code 4 leaves the migration alone; `cancel --wait` ends it with 0; both take a short id."""
    name = relay.vm(memory_mib=LARGE)
    done = relay.cli("migrate", name, "beta", "--wait", "--timeout", "0.1")
    assert done.returncode == 4
    ident = re.search(r"vmrelay watch (\S+)", done.stderr)
    assert ident is not None
    assert relay.record(ident[1]).state == "active"  # type: ignore[union-attr]
    stopped = relay.cli("cancel", ident[1][:12], "--wait", "-o", "json")
    assert stopped.returncode == 0, stopped.stderr
    assert json.loads(stopped.stdout)["outcome"] == "cancelled"
    assert relay.cli("cancel", ident[1]).returncode == 2
    assert relay.where(name) == {"alpha": "running"}


def test_verbose_and_watch_tell_progress(relay: Relay) -> None:
    """Without a terminal, --verbose waits and tells how far it is, as watch does; --wait tells events only."""
    ways = (("--verbose", "-o", "json"), ("--wait",))
    names = [relay.vm(memory_mib=20_000) for _ in ways]
    with ThreadPoolExecutor(2) as pool:
        verbose, silent = pool.map(lambda name, more: relay.cli("migrate", name, "beta", *more), names, ways)
    assert (verbose.returncode, silent.returncode) == (0, 0), verbose.stderr + silent.stderr
    assert re.search(r"^\d+ %", verbose.stderr, re.MULTILINE)
    assert "perform on alpha" in silent.stderr
    assert not re.search(r"^\d+ %", silent.stderr, re.MULTILINE)
    watched = relay.cli("watch", json.loads(verbose.stdout)["id"])
    assert re.search(r"^\d+ %", watched.stderr, re.MULTILINE)


def test_a_terminal_shows_a_bar(relay: Relay) -> None:
    """With standard error on a terminal the command waits and draws percent and phase; the outcome is a line."""
    ours, theirs = pty.openpty()
    environment = relay.environment | {"NO_COLOR": "1", "COLUMNS": "120", "TERM": "xterm"}
    words = ["migrate", relay.vm(memory_mib=300_000), "beta"]  # three seconds
    process = subprocess.Popen(
        leashed([str(VMRELAY), *words]), env=environment, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs
    )
    os.close(theirs)
    drawn = b""
    with suppress(OSError):  # how Linux tells that nobody has the other end open any more
        while piece := os.read(ours, 65536):
            drawn += piece
    os.close(ours)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 0, drawn
    assert b"is on beta (" in said
    assert re.search(rb"perform on alpha .* [1-9]\d? %", drawn)
    assert not re.search(rb"\x1b\[(?:\d;)*[349]\dm", drawn)


TUNINGS = (("set-downtime", 500), ("set-speed", 100), ("set-speed", 0, "--postcopy"), ("postcopy",))


def test_what_cannot_be_tuned_is_refused(relay: Relay) -> None:
    """A simulated Virtuozzo takes no wishes while it performs: exit code 2, the reason, and nothing else changes."""
    name = relay.vm(memory_mib=5 * LARGE)  # outlives four commands on a busy machine
    ident = relay.migrate(name)
    relay.copying(ident)

    def call(words: tuple[object, ...]) -> subprocess.CompletedProcess[str]:
        command, *more = map(str, words)
        return relay.cli(command, ident, *more)

    with ThreadPoolExecutor(2) as pool:
        for done in pool.map(call, TUNINGS):
            assert done.returncode == 2, done.stderr
            assert "driver vz cannot change a running perform" in done.stderr
            assert not done.stdout
    assert relay.record(ident).state == "active"  # type: ignore[union-attr]
    assert not relay.events(ident, "tuned")
    assert relay.cli("cancel", ident, "--wait").returncode == 0
    over = relay.cli("postcopy", ident, "-o", "json")
    assert over.returncode == 2
    assert "is over: cancelled [over]" in over.stderr


def test_a_wish_for_a_migration_that_does_not_exist(relay: Relay) -> None:
    """It is refused with the code of every other command."""
    done = relay.cli("postcopy", "nobody")
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no migration 'nobody'" in done.stderr
    assert "[unknown-migration]" in done.stderr


def test_not_waiting(relay: Relay) -> None:
    """`--no-wait` prints the id once the request was accepted."""
    done = relay.cli("migrate", relay.vm(), "beta", "--no-wait")
    assert done.returncode == 0
    assert relay.wait(done.stdout.strip()).outcome == "succeeded"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_leads_with_an_example(name: str) -> None:
    """`--help` of every command shows how it is called, in its first lines."""
    done = CliRunner().invoke(cli, [name, "--help"])
    assert done.exit_code == 0, done.output
    head = done.output.split("Options:")[0]
    assert re.search(rf"(Examples?:|\$ ).*vmrelay {name}", head, re.DOTALL), head


def test_help_of_every_subcommand_shows_an_example() -> None:
    """The groups' own commands, too."""
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        if isinstance(command, click.Group):
            for sub in command.list_commands(click.Context(command)):
                done = CliRunner().invoke(cli, [name, sub, "--help"])
                assert re.search(rf"vmrelay {name} {sub}", done.output), done.output


def test_the_procfile_parses() -> None:
    """honcho reads it; each entry names a command that exists."""
    entries = parse_procfile((ROOT / "Procfile").read_text()).processes
    assert {"scheduler", "agent-alpha"} <= entries.keys()
    for line in entries.values():
        words = line.split()
        command = words[next(n for n, word in enumerate(words) if word.endswith("vmrelay")) + 1]
        assert command in COMMANDS
