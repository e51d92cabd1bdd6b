"""The fake that applications test against: scripted, recorded, and never waiting for anything real."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from vmrelay_client import Failed, IdempotencyConflict, InDoubt, Rejected, TimedOut, Unavailable
from vmrelay_client.fake import FakeClient, Request


def test_the_guides_example_runs() -> None:
    """What the guide shows of the fake is true of it."""
    page = (Path(__file__).parents[2] / "docs" / "howto" / "web-application.md").read_text()
    example = next(block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "FakeClient" in block)
    exec(compile(example, "web-application.md", "exec"), {})  # noqa: S102 - our own page


def test_time_moves_on_when_it_is_told_to() -> None:
    """A status shows the same until the clock is moved on, and each second something new."""
    client = FakeClient()
    asked = client.migrate("web-1", "beta")
    assert client.status(asked.id) == client.status(asked.id) == asked
    phases = []
    for _ in range(12):
        client.advance(1)
        phases.append(client.status(asked.id).phase)
    assert phases == ["begin", "prepare", *["perform"] * 6, "finish", "confirm", None, None]
    assert client.status(asked.id).state == "succeeded"


def test_what_was_asked_for_is_recorded() -> None:
    """In its order, with its arguments as they would travel."""
    client = FakeClient()
    asked = client.migrate("web-1", "beta", requested_by="anna", options={"paused": True})
    client.cancel(asked.id, requested_by="bob")
    drained = client.drain("alpha", reason="new kernel")
    client.control(drained.id, "pause")
    assert client.requests == [
        Request("migrate", asked.id, {
            "domain": "web-1", "destination": "beta", "requested_by": "anna", "options": {"paused": True}
        }),
        Request("cancel", asked.id, {"requested_by": "bob"}),
        Request("drain", drained.id, {"hosts": ["alpha"], "reason": "new kernel"}),
        Request("control", drained.id, {"batch": drained.id, "action": "pause"}),
    ]  # fmt: skip


def test_each_fate_can_be_scripted() -> None:
    """Failures and refusals with their codes, also at once as over HTTP; afterwards the domain moves again."""
    client = FakeClient()
    client.fail("web-1", "VIR_ERR_CPU_INCOMPATIBLE", "guest and host CPU are not compatible")
    asked = client.migrate("web-1", "beta")
    with pytest.raises(Failed, match="not compatible") as failed:
        client.wait(asked.id, 60)
    assert failed.value.code == "VIR_ERR_CPU_INCOMPATIBLE"
    client.succeed("web-1")
    assert client.wait(client.migrate("web-1", "beta").id, 60).state == "succeeded"
    eager = FakeClient(like="http")
    eager.refuse("web-1", "busy-domain")
    with pytest.raises(Rejected) as refused:
        eager.migrate("web-1", "beta")
    assert refused.value.code == "busy-domain"


def test_doubt_lasts_until_an_operator_settles_it() -> None:
    """Waiting raises InDoubt at once, events go on, and an outcome follows."""
    client = FakeClient()
    client.leave_in_doubt("web-1", "seen on both")
    asked = client.migrate("web-1", "beta")
    with pytest.raises(InDoubt, match="seen on both"):
        client.wait(asked.id, 60)
    now = client.status(asked.id)
    assert (now.state, now.over) == ("in-doubt", False)
    told = client.events(asked.id, 1000)
    assert [next(told).type for _ in range(9)][-1] == "in-doubt"
    client.settle(asked.id, "succeeded")
    assert [event.type for event in told] == ["ended"]
    assert client.status(asked.id).state == "succeeded"
    with pytest.raises(ValueError, match="not in doubt"):
        client.settle(asked.id, "failed")


def test_a_cancel_answers_by_what_is_under_way() -> None:
    """What waits has ended, what performs is asked, what was performed is too late."""
    client = FakeClient()
    for seconds, answer, detail in ((0, "ended", ""), (5, "asked", "active"), (9, "too-late", "finish")):
        asked = client.migrate("web-1", "beta")
        client.advance(seconds)
        told = client.cancel(asked.id)
        assert (told.answer, told.detail) == (answer, detail)


def test_a_relay_that_is_away_comes_back() -> None:
    """Everything is Unavailable meanwhile, and a wait sits it out until its time is up."""
    client = FakeClient()
    asked = client.migrate("web-1", "beta")
    client.go_away()
    for ask in (lambda: client.status(asked.id), lambda: client.migrate("web-1", "beta"), lambda: client.batch("b")):
        with pytest.raises(Unavailable):
            ask()
    with pytest.raises(TimedOut, match="away"):
        client.wait(asked.id, 30)
    with pytest.raises(Unavailable):
        client.wait(asked.id, None)
    client.come_back()
    assert client.wait(asked.id, 30).state == "succeeded"
    assert len(client.requests) == 1


def test_what_never_ends_does_not_hang_a_test() -> None:
    """Without a timeout the fake's clock ends the wait, and no real time passes."""
    client = FakeClient()
    client.keep_running("web-1")
    asked, began = client.migrate("web-1", "beta"), time.monotonic()
    with pytest.raises(TimedOut, match="never ends"):
        client.wait(asked.id, None)
    with pytest.raises(TimedOut):
        list(client.events(asked.id, 10_000))
    assert client.status(asked.id).phase == "perform"
    assert time.monotonic() - began < 30


def test_batches_go_on_a_move_a_second() -> None:
    """Counts rise, a pause stops them, a cancel skips the rest, a retry moves what failed."""
    client = FakeClient()
    client.plan_batches(moved=2, failed=1, skipped=1, left=("web-9",))
    asked = client.drain(["alpha", "beta"], idempotency_key="maintenance-7")
    assert (asked.state, asked.known) == ("waiting", False)
    client.advance(3)
    now = client.batch(asked.id)
    assert (now.state, now.moved, now.total, now.percent) == ("running", 2, 4, 50)
    assert client.control(asked.id, "pause").state == "paused"
    client.advance(100)
    assert client.batch(asked.id).moved == 2
    assert client.control(asked.id, "pause").answer == "same"
    client.control(asked.id, "resume")
    done = client.wait_batch(asked.id, 60)
    assert (done.moved, done.failed, done.skipped, done.state) == (2, 1, 1, "finished")
    assert done.document["left"] == [{"domain": "web-9"}]
    assert client.control(asked.id, "retry").answer == "ok"
    assert client.wait_batch(asked.id, 60).moved == 3
    stopped = client.rebalance()
    client.advance(2)
    assert client.control(stopped.id, "cancel").state == "cancelling"
    assert client.wait_batch(stopped.id, 60).skipped == 3


def test_a_batch_can_be_held_and_refused() -> None:
    """What is held waits for resume; a refusal shows as over Celery, or at once as over HTTP; so does a conflict."""
    client = FakeClient(like="http")
    held = client.drain("alpha", hold=True, idempotency_key="k")
    client.advance(100)
    assert client.batch(held.id).state == "planned"
    with pytest.raises(IdempotencyConflict):
        client.drain("beta", hold=True, idempotency_key="k")
    client.refuse_batches("nowhere-to-go")
    with pytest.raises(Rejected) as refused:
        client.drain("beta")
    assert refused.value.code == "nowhere-to-go"
    quiet = FakeClient()
    quiet.refuse_batches("draining", "it is being drained")
    with pytest.raises(Rejected, match="being drained"):
        quiet.wait_batch(quiet.drain("alpha").id, 60)
