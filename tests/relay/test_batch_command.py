"""`vmrelay batch` against a running relay: run, watch, list, show, pause, resume, cancel, retry."""

from __future__ import annotations

import json
import subprocess
from itertools import count

from relay_lab import LARGE, Relay, until

_numbers = count(1)


def listed(relay: Relay, *lines: str) -> str:
    """A file with these moves."""
    file = relay.directory / f"moves-{next(_numbers)}"
    file.write_text("\n".join(lines))
    return str(file)


def run(relay: Relay, *words: str) -> subprocess.CompletedProcess[str]:
    """Run moves to their end."""
    return relay.cli("batch", "run", "--wait", *words)


def test_a_list_is_moved_and_has_a_receipt(relay: Relay) -> None:
    """What can move has moved, what cannot is named with its reason, and the exit code says that there is some."""
    names = [relay.vm() for _ in range(3)]
    file = listed(relay, "domain,destination", *(f"{name},beta" for name in names), "no-such-vm,beta")
    done = run(relay, file, "--id", "receipt-1", "--reason", "test", "--compressed")
    assert done.returncode == 1, done
    assert "receipt-1 (list) finished: 3 moved, 1 failed, 0 skipped of 4" in done.stdout
    assert "no-such-vm" in done.stdout
    assert "next: vmrelay batch retry receipt-1" in done.stderr
    assert all(list(relay.where(name)) == ["beta"] for name in names)
    document = json.loads(relay.cli("batch", "show", "receipt-1", "-o", "json").stdout)
    assert (document["moved"], document["failed"], document["reason"]) == (3, 1, "test")
    assert [item["state"] for item in document["items"]] == ["moved", "moved", "moved", "failed"]
    failed = json.loads(relay.cli("batch", "show", "receip", "--failed", "-o", "json").stdout)
    assert [item["domain"] for item in failed["items"]] == ["no-such-vm"]
    listing = relay.cli("batch", "list").stdout
    assert "receipt-1" in listing
    watched = relay.cli("batch", "watch", "receipt-1")
    assert (watched.returncode, "3 moved" in watched.stdout) == (1, True)


def test_the_same_batch_again_is_the_same_batch(relay: Relay) -> None:
    """The same id and list move nothing; the same id with another list is refused."""
    name = relay.vm()
    file = listed(relay, f"{name} beta")
    assert run(relay, file, "--id", "again").returncode == 0
    same = run(relay, file, "--id", "again")
    assert same.returncode == 0
    assert "there is this batch already: again" in same.stderr
    other = run(relay, listed(relay, f"{name} gamma"), "--id", "again")
    assert other.returncode == 2
    assert "[batch-exists]" in other.stderr
    assert list(relay.where(name)) == ["beta"]


def test_what_is_refused_touches_nothing(relay: Relay) -> None:
    """An unknown host, a line that is none, a plan that is none: exit code 2, and no batch."""
    before = {batch.id for batch in relay.journal.batches()}
    for lines, code in ((["vm-x nowhere"], "unknown-host"), (["vm-x"], "bad-file"), (["{}"], "bad-file")):
        done = run(relay, listed(relay, *lines))
        assert (done.returncode, f"[{code}]" in done.stderr) == (2, True), done
    gone = relay.cli("batch", "show", "no-such-batch")
    assert (gone.returncode, "[unknown-batch]" in gone.stderr) == (2, True)
    assert {batch.id for batch in relay.journal.batches()} == before


def test_a_batch_is_held_paused_resumed_and_cancelled(relay: Relay) -> None:
    """Held it waits; cancelled with --abort what runs stays on its source, and the command says so with exit code 0."""
    name = relay.vm(memory_mib=LARGE)
    small = relay.vm()
    held = relay.cli(
        "batch", "run", listed(relay, f"{name} beta", f"{small} beta"), "--id", "steered", "--hold", "--no-wait"
    )
    assert (held.returncode, held.stdout.strip()) == (0, "steered")
    until(lambda: relay.journal.batch("steered").state == "planned", "it is planned")  # type: ignore[union-attr]
    assert relay.cli("batch", "resume", "steered").stdout.strip() == "steered running"
    until(lambda: list(relay.where(small)) == ["beta"], "the small one moves")
    assert relay.cli("batch", "pause", "steered").stdout.strip() == "steered paused"
    assert relay.cli("batch", "pause", "steered").stdout.strip() == "steered paused already"
    ended = relay.cli("batch", "cancel", "steered", "--abort", "--wait")
    assert ended.returncode == 0, ended
    assert "1 moved, 0 failed, 1 skipped of 2" in ended.stdout
    assert relay.where(name) == {"alpha": "running"}
    late = relay.cli("batch", "cancel", "steered")
    assert (late.returncode, "[over]" in late.stderr) == (2, True)
    none = relay.cli("batch", "retry", "steered")
    assert (none.returncode, "[nothing-failed]" in none.stderr) == (2, True)


def test_what_failed_is_retried(relay: Relay) -> None:
    """Retry asks for it again, and only for it."""
    good, bad = relay.vm(), relay.vm()
    file = listed(relay, f"{good} beta", f"{bad} beta")
    relay.fault("alpha", "fail", code="0x80031004", vm=bad)
    first = run(relay, file, "--id", "retried")
    assert first.returncode == 1, first
    again = relay.cli("batch", "retry", "retried", "--wait")
    assert again.returncode == 0, again
    assert "2 moved, 0 failed" in again.stdout
    assert [list(relay.where(name)) for name in (good, bad)] == [["beta"], ["beta"]]
