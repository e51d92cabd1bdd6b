"""The trace of whoever asked goes with a migration: into its record, its messages, and the logs of all processes."""

from __future__ import annotations

import json
import re
import uuid

from relay_lab import Relay, until
from wiretap import wiretap

from worker.hypervisors.base import Phase

ID = "0af7651916cd43dd8448eb211c80319c"
TRACE = f"00-{ID}-b7ad6b7169203331-01"


def test_a_trace_goes_with_a_migration(relay: Relay) -> None:
    """From the request to each phase's message, those that are sent again, too; a request without one has none."""
    sent: dict[str, set[str]] = {}

    def note(words: list[bytes]) -> None:
        if words[:1] == [b"LPUSH"] and words[1].startswith(b"host."):
            headers = json.loads(words[2])["headers"]
            sent.setdefault(headers["task"].rpartition(".")[2], set()).add(headers.get("traceparent", ""))

    with wiretap(relay.redis.port, note):
        name = relay.vm()
        relay.kill("agent-beta")
        ident = relay.migrate(name, traceparent=TRACE)
        relay.in_phase(ident, "prepare", "queued")
        relay.lose("beta")  # the scheduler sends it again
        relay.restart_agent("beta")
        record = relay.wait(ident)
        until(lambda: len(sent) == len(Phase), "every message was heard")
    assert (record.outcome, record.traceparent, record.document()["traceparent"]) == ("succeeded", TRACE, TRACE)
    assert sent == {phase: {TRACE} for phase in Phase}
    # Colours stand between name and value where a log goes to a terminal.
    told = re.compile(rf"{ident}.*trace_id\W*{ID}|trace_id\W*{ID}.*{ident}")
    for process in ("scheduler", "agent-alpha"):
        until(lambda process=process: told.search(relay.log(process)), f"{process} logs the trace")
    assert relay.moved(relay.vm()).document()["traceparent"] is None


def test_a_trace_may_come_as_a_header(relay: Relay) -> None:
    """As OpenTelemetry sends it; and a batch hands it on to its migrations."""
    header = {"traceparent": TRACE}
    for task, arguments in (
        ("migrate", {"domain": relay.vm(), "destination": "beta"}),
        ("batch", {"moves": [{"domain": relay.vm(), "destination": "beta"}]}),
    ):
        ident = str(uuid.uuid4())
        relay.celery.send_task(f"vmrelay.v1.{task}", kwargs=arguments, task_id=ident, queue="scheduler", headers=header)
        if task == "batch":
            until(lambda ident=ident: relay.record(f"{ident}.1"), "the move is asked for")
            batch = relay.journal.batch(ident)
            assert batch is not None
            assert batch.document()["traceparent"] == TRACE
            ident = f"{ident}.1"
        assert relay.wait(ident).document()["traceparent"] == TRACE
