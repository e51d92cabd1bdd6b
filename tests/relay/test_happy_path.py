"""A migration from the request to the outcome."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from relay_lab import LARGE, Relay, until

PHASES = [("begin", "alpha"), ("prepare", "beta"), ("perform", "alpha"), ("finish", "beta"), ("confirm", "alpha")]
FOREIGN = """
import json, sys, time
from celery import Celery

url, domain = sys.argv[1:]
app = Celery("stranger", broker=url, backend=url)
sent = app.send_task("vmrelay.v1.migrate", kwargs={"domain": domain, "destination": "beta"}, queue="scheduler")
seen, metas = [], []
deadline = time.monotonic() + 60
while time.monotonic() < deadline:
    meta = app.backend.get_task_meta(sent.id)
    state, info = meta["status"], meta["result"]
    if not seen or seen[-1] != state:
        seen.append(state)
    if state == "PROGRESS" and isinstance(info, dict):
        metas.append(info)
    if state in ("SUCCESS", "FAILURE"):
        break
    time.sleep(0.005)
try:
    outcome = {"value": sent.get(timeout=60)}
except Exception as error:
    outcome = {"error": type(error).__name__, "text": str(error)}
ours = sorted({name.split(".")[0] for name in sys.modules} & {"worker", "tasks"})
print(json.dumps({"states": seen, "metas": metas, "outcome": outcome, "ours": ours}))
"""


def _as_a_stranger(relay: Relay, domain: str, cwd: Path) -> dict[str, object]:
    """Migrate from a process that has celery and nothing of this project."""
    done = subprocess.run(
        [sys.executable, "-c", FOREIGN, relay.redis.url, domain],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, object] = json.loads(done.stdout)
    return told


def test_a_migration_moves_a_running_guest(relay: Relay) -> None:
    """The guest runs on the destination alone, was never restarted, and its heart went on beating."""
    name = relay.vm()
    before = relay.look("alpha", name)
    relay.moved(name)
    assert relay.where(name) == {"beta": "running"}
    after = relay.look("beta", name)
    assert (after["boot_id"], after["boots"]) == (before["boot_id"], before["boots"])
    assert after["heartbeat"] >= before["heartbeat"]


def test_the_result_document_tells_all_of_a_migration(relay: Relay) -> None:
    """Outcome, flags, attempts, phases with host and seconds, downtime: in AsyncResult as in the journal."""
    name = relay.vm()
    ident = relay.migrate(name, requested_by="tests", reason="maintenance")
    record = relay.wait(ident)
    until(lambda: relay.result(ident)["status"] == "SUCCESS", "AsyncResult")
    document = relay.result(ident)["result"]
    assert document == json.loads(json.dumps(record.document()))
    assert document["outcome"] == "succeeded"
    assert document["flags"] == ["compressed", "live", "persist_dest"]
    assert document["attempts"] == 1
    assert document["retries"] == 0
    assert [(phase["name"], phase["host"]) for phase in document["phases"]] == PHASES
    assert all(phase["seconds"] >= 0 for phase in document["phases"])
    assert document["downtime_seconds"] >= 0
    assert document["transferred_bytes"] > 0
    assert document["error"] is document["warning"] is document["stalled"] is None
    assert (document["requested_by"], document["reason"]) == ("tests", "maintenance")
    assert (document["source"], document["destination"], document["destination_name"]) == ("alpha", "beta", name)
    assert document["created"] <= document["ended"]


def test_events_tell_the_migration_in_order(relay: Relay) -> None:
    """Accepted, started, each phase begun and ended, progress only in perform, ended."""
    ident = relay.migrate(relay.vm(memory_mib=20_000))
    relay.wait(ident)
    told = [event["type"] for event in relay.events(ident)]
    assert told[:2] == ["accepted", "started"]
    assert told[-1] == "ended"
    assert [event["phase"] for event in relay.events(ident, "phase")] == [phase for phase, _ in PHASES]
    assert [event["phase"] for event in relay.events(ident, "phase-ended")] == [phase for phase, _ in PHASES]
    shown = [event["percent"] for event in relay.events(ident, "progress")]
    assert shown == sorted(shown)


def test_a_stranger_with_celery_alone_sees_progress_and_the_outcome(relay: Relay, tmp_path: Path) -> None:
    """AsyncResult goes from PENDING over PROGRESS, with what celery-progress draws, to the document."""
    told = _as_a_stranger(relay, relay.vm(memory_mib=300_000), tmp_path)
    assert told["ours"] == []
    states = told["states"]
    assert isinstance(states, list)
    assert states in (["PENDING", "PROGRESS", "SUCCESS"], ["PROGRESS", "SUCCESS"])
    metas = told["metas"]
    assert isinstance(metas, list)
    for meta in metas:
        assert meta["total"] == 100
        assert 0 <= meta["current"] == meta["percent"] <= 100
        assert meta["description"]
    outcome = told["outcome"]
    assert isinstance(outcome, dict)
    assert outcome["value"]["outcome"] == "succeeded"


def test_a_stranger_gets_the_first_error(relay: Relay, tmp_path: Path) -> None:
    """Where the migration failed, get() raises with the text of the first error and where the guest is."""
    name = relay.vm()
    relay.fault("alpha", "fail", code="0x80031004", vm=name)
    outcome = _as_a_stranger(relay, name, tmp_path)["outcome"]
    assert isinstance(outcome, dict)
    assert outcome["error"] == "Failed"
    assert f"{name} stays on alpha" in outcome["text"]
    assert "VM_MIGRATE_NOT_ENOUGH_CPUS_ON_TARGET" in outcome["text"]


def test_paused_arrives_paused(relay: Relay) -> None:
    """With PAUSED the guest stays paused on the destination, though the dispatcher lets it run."""
    name = relay.vm()
    record = relay.moved(name, options={"paused": True})
    assert relay.where(name) == {"beta": "paused"}
    assert "paused" in record.document()["flags"]


def test_a_guest_paused_by_its_user_arrives_paused(relay: Relay) -> None:
    """A source paused at begin forces PAUSED."""
    name = relay.vm(state="paused")
    relay.moved(name)
    assert relay.where(name) == {"beta": "paused"}


def test_a_guest_can_be_renamed(relay: Relay) -> None:
    """destination_name is the guest's name on the destination, and there it can be asked for at once."""
    name = relay.vm()
    record = relay.moved(name, params={"destination_name": f"{name}-new"})
    assert record.destination_name == f"{name}-new"
    assert relay.where(name) == {}
    assert relay.where(f"{name}-new") == {"beta": "running"}
    back = relay.moved(f"{name}-new", "alpha")
    assert back.source == "beta"


def test_a_guest_is_found_by_uuid(relay: Relay) -> None:
    """The domain may be named by its uuid; the record has its name."""
    name = relay.vm()
    uuid = relay.look("alpha", name)["uuid"]
    record = relay.moved(uuid.upper().strip("{}"))
    assert record.domain == name


def test_a_guest_goes_there_and_back_at_once(relay: Relay) -> None:
    """The end of a migration tells where the domain is: no wait for the next look of an agent."""
    name = relay.vm()
    for destination in ("beta", "gamma", "alpha"):
        relay.moved(name, destination)
        assert relay.where(name) == {destination: "running"}


def test_progress_is_in_the_record_of_a_running_migration(relay: Relay) -> None:
    """A running perform shows how far it is; an ended one shows nothing of it."""
    ident = relay.migrate(relay.vm(memory_mib=LARGE))
    relay.copying(ident)
    until(lambda: (record := relay.record(ident)) and record.progress.get("percent", 0) > 0, "progress")
    relay.send("vmrelay.v1.cancel", migration=ident)
    assert relay.wait(ident).document()["progress"] is None
