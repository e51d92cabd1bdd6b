"""Webhooks of a whole relay: every outcome is told, whoever is killed when, and what comes twice has one id."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from journal_lab import NOTHING
from receiver_lab import SECRET, Got, Handler, Receiver, hang, receiver, secret_file, status
from relay_lab import LARGE, Relay, until
from terms import terms_text
from vmrelay_client.webhooks import Message, verify

LASTS = 200_000
"""MiB: a guest that is still being copied when a test acts, and that has moved soon after."""
ALL = ["succeeded", "failed", "cancelled", "rejected", "in-doubt", "batch-finished"]
RUN = {"host": "alpha", "seconds": 0}


@pytest.fixture
def told(relay: Relay, tmp_path: Path) -> Iterator[Receiver]:
    """Who is told everything, beside somebody who never answers."""
    before = relay.environment
    with receiver() as got, receiver() as dead:
        dead.always = hang
        hook = {"secret_file": str(secret_file(tmp_path / "secret")), "tells": ALL, "timeout_seconds": 0.5}
        soon = {"initial_seconds": 0.05, "maximum_seconds": 0.2}
        hooks = {
            "hook": hook | soon | {"url": got.url},
            "dead": hook | {"url": dead.url, "at_once": 2, "timeout_seconds": 20},
        }
        relay.environment = before | {"VMRELAY_WEBHOOKS": json.dumps(hooks)}
        try:
            relay.restart_scheduler()
            until(lambda: relay.journal.client.hlen("vmrelay:webhooks") == 2, "the leader has named them")
            yield got
        finally:
            relay.environment = before
            relay.restart_scheduler()
            until(lambda: relay.journal.client.hlen("vmrelay:webhooks") == 0, "they are gone")
            relay.journal.client.delete(*relay.journal.client.keys("vmrelay:webhook:*"))


def delivered(relay: Relay, got: Receiver) -> list[Message]:
    """Wait until the receiver has been told everything; its messages, each of which must be signed."""
    until(lambda: not relay.journal.webhooks(["hook"])["hook"].waiting, "all is told")
    return [verify(one.body, one.headers["Vmrelay-Signature"], SECRET) for one in got.got]


def put_in_doubt_and_settle(relay: Relay, ident: str) -> None:
    """What the scripts do for a migration that an operator has to look at, and then has."""
    fields = {"domain": ident, "uuid": ident, "source": "alpha", "destination": "beta", "driver": "vz"}
    journal = relay.journal
    journal.submit(ident, fields, {}, "b1", terms_text(99, 99))
    assert journal.claim(ident, 1, 1, "begin", "b1", "b", "alpha", NOTHING).won
    journal.doubt(ident, "b", RUN, {"reason": "x", "error": "silent"}, {}, NOTHING)
    journal.client.hset(f"vmrelay:m:{ident}", mapping={"state": "active", "step": "running", "token": "r"})
    journal.conclude(ident, "r", RUN, {"outcome": "failed", "reason": "x", "error": "no"}, 1000, None)


def test_every_outcome_is_told_once(relay: Relay, told: Receiver) -> None:
    """Moved, failed, cancelled, rejected, in doubt and its end, a batch and its move: signed, each once."""
    failing, long = relay.vm(), relay.vm(memory_mib=LARGE)
    told.script.extend([status(500), status(500)])  # whatever comes first is told all the same
    relay.fault("alpha", "fail", code="0x80031004", count=9, vm=failing)
    stopped = relay.migrate(long)
    ends = {
        relay.moved(relay.vm()).id: ["migration.succeeded"],
        relay.wait(relay.migrate(failing)).id: ["migration.failed"],
        relay.wait(relay.migrate("nobody")).id: ["migration.rejected"],
    }
    relay.copying(stopped)
    relay.send("vmrelay.v1.cancel", migration=stopped)
    ends[relay.wait(stopped).id] = ["migration.cancelled"]
    put_in_doubt_and_settle(relay, "doubtful")
    ends["doubtful"] = ["migration.in-doubt", "migration.failed"]
    batch = relay.send("vmrelay.v1.batch", moves=[{"domain": relay.vm(), "destination": "beta"}])
    until(lambda: relay.result(batch)["status"] == "SUCCESS", "the batch is over")
    ends |= {batch: ["batch.finished"], f"{batch}.1": ["migration.succeeded"]}

    messages = delivered(relay, told)
    shown = {of: sorted({each.type for each in messages if (each.migration or each.batch).id == of}) for of in ends}  # type: ignore[union-attr]
    assert shown == {of: sorted(types) for of, types in ends.items()}
    assert len({each.id for each in messages}) == len(messages) - 2 == sum(map(len, ends.values()))
    for each in messages:
        if each.migration is not None and each.type != "migration.in-doubt":
            record = relay.record(each.migration.id)
            assert record is not None
            assert each.document["migration"] == record.document()
    last = next(each.document["batch"] for each in messages if each.batch is not None)
    assert (last["id"], last["state"], last["moved"]) == (batch, "finished", 1)

    assert relay.journal.webhooks(["dead"])["dead"].waiting == sum(map(len, ends.values()))

    def agrees(result: str, least: int) -> bool:
        # The journal counts, not this test: what other tests left moving may end now, and is told too.
        counted = int(relay.journal.client.hget("vmrelay:webhook:hook", result) or 0)
        shown = relay.metrics("scheduler", "vmrelay_webhook_deliveries_total", webhook="hook", result=result)
        return shown == counted >= least

    least = {"delivered": sum(map(len, ends.values())), "retried": 2}
    until(lambda: all(agrees(*each) for each in least.items()), "the leader shows what the journal counted")
    tried = relay.cli("webhook", "test", "hook")
    assert (tried.returncode, "answered 204" in tried.stdout) == (0, True), tried.stderr
    assert verify(told.got[-1].body, told.got[-1].headers["Vmrelay-Signature"], SECRET).type == "webhook.test"


def test_nothing_is_lost_with_a_killed_scheduler_or_redis(relay: Relay, told: Receiver) -> None:
    """Killed between an outcome and its delivery, Redis restarted before the next leader; and killed between a delivery
    and its note: told twice then, under one id."""
    first = relay.migrate(relay.vm(memory_mib=LASTS))
    relay.copying(first)
    relay.kill("scheduler")
    assert relay.wait(first).outcome == "succeeded"
    assert told.told(first) == []
    relay.redis.restart()
    relay.mend()
    delivered(relay, told)
    assert told.told(first) == ["migration.succeeded"]

    def kill(handler: Handler) -> None:
        process = relay.processes["scheduler"]
        process.kill()
        process.wait()
        status(204)(handler)

    told.script.append(kill)
    second = relay.moved(relay.vm()).id
    until(lambda: told.told(second), "the first one comes")
    until(lambda: relay.processes["scheduler"].poll() is not None, "and its sender is killed")
    relay.processes.pop("scheduler")
    relay.mend()
    delivered(relay, told)
    twice: list[Got] = [one for one in told.got if one.of == second]
    assert len(twice) == 2
    assert twice[0].id == twice[1].id == twice[0].message["id"]
    assert twice[0].body == twice[1].body
    assert relay.journal.webhooks(["hook"])["hook"].failures == 0
