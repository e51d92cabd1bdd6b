"""The schedulers' intake over a real Redis: what is in nobody's hands goes back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from worker.journal.intake import DEAD_SECONDS, Intake, schedulers

QUEUE = "scheduler"


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """A client that shows bytes."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def intake(redis_url: str) -> Iterator[Intake]:
    """One scheduler's intake; nobody looks but the test."""
    one = Intake(redis_url, "vmrelay:", QUEUE)
    yield one
    one.client.close()


def take(client: redis.Redis, intake: Intake) -> bytes:
    """What the scheduler's channel does."""
    entry = client.blmove(QUEUE, intake.taken, 1, "RIGHT", "LEFT")
    assert isinstance(entry, bytes)
    return entry


def died(client: redis.Redis, intake: Intake) -> None:
    """So long ago showed this scheduler itself."""
    client.zincrby("vmrelay:schedulers", -(DEAD_SECONDS + 1) * 1000, intake.name)


def test_what_is_done_is_gone(client: redis.Redis, intake: Intake) -> None:
    """An entry is in the list while it is held, however often one looks, and in neither place afterwards."""
    client.lpush(QUEUE, b"one")
    intake.hold("tag", take(client, intake))
    for _ in range(3):
        intake.look()
    assert client.lrange(intake.taken, 0, -1) == [b"one"]
    intake.done("tag")
    intake.done("tag")
    assert not client.exists(intake.taken, QUEUE)


def test_what_a_lost_answer_held_goes_back(client: redis.Redis, intake: Intake) -> None:
    """An entry that no answer brought is put back at the second look, in front, whatever bytes it is made of."""
    client.lpush(QUEUE, b"\xff\x00", b"next")
    assert take(client, intake) == b"\xff\x00"
    intake.look()
    assert client.lrange(QUEUE, 0, -1) == [b"next"]
    intake.look()
    assert client.lrange(QUEUE, 0, -1) == [b"next", b"\xff\x00"]
    assert not client.exists(intake.taken)


def test_what_a_dead_scheduler_held_goes_back_in_order(client: redis.Redis, intake: Intake, redis_url: str) -> None:
    """Only once it has not shown itself for a while; the oldest request is the first to be taken again."""
    dead = Intake(redis_url, "vmrelay:", QUEUE)
    client.lpush(QUEUE, b"1", b"2", b"3")
    for tag in ("a", "b"):
        dead.hold(tag, take(client, dead))
    dead.look()
    intake.look()
    assert client.llen(QUEUE) == 1
    died(client, dead)
    intake.look()
    assert client.lrange(QUEUE, 0, -1) == [b"3", b"2", b"1"]
    assert schedulers(intake) == [intake.name]
    dead.client.close()


def test_one_that_was_only_held_up(client: redis.Redis, intake: Intake, redis_url: str) -> None:
    """A scheduler that comes back and takes one more before it shows itself is not forgotten."""
    slow = Intake(redis_url, "vmrelay:", QUEUE)
    slow.look()
    died(client, slow)
    intake.look()
    client.lpush(QUEUE, b"late")
    take(client, slow)
    intake.look()
    assert client.lrange(QUEUE, 0, -1) == [b"late"]
    slow.client.close()


def test_what_stops_gives_back(client: redis.Redis, intake: Intake) -> None:
    """A scheduler that ends leaves nothing in its list."""
    client.lpush(QUEUE, b"1")
    intake.start()
    intake.hold("tag", take(client, intake))
    intake.stop()
    assert client.lrange(QUEUE, 0, -1) == [b"1"]


def test_what_comes_too_late_for_its_consumer(client: redis.Redis, intake: Intake) -> None:
    """A request that is let go goes back, and is not taken for done."""
    client.lpush(QUEUE, b"1")
    intake.hold("tag", take(client, intake))
    intake.lose("tag")
    intake.look()
    intake.look()
    assert client.lrange(QUEUE, 0, -1) == [b"1"]


def test_requests_of_any_priority_are_taken(client: redis.Redis, intake: Intake) -> None:
    """What a client's kombu put into the list of another priority comes into the one that is read."""
    for step in ("3", "6", "9"):
        client.lpush(f"{QUEUE}\x06\x16{step}", step)
    intake.look()
    assert client.lrange(QUEUE, 0, -1) == [b"9", b"6", b"3"]
