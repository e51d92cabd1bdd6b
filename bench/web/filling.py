"""A journal full of migrations that have ended: real ones, copied key by key under other ids, guests and hosts."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import redis

from bench.stage import HOSTS, Stage
from worker.contract import MIGRATE, SCHEDULER_QUEUE
from worker.hypervisors.simulator.control import ask
from worker.journal import Journal

FLEET = tuple(f"h{number:02}" for number in range(1, 41))
"""The hosts between which the copies moved."""
DAYS = 7
"""So long ago the oldest of them was asked for."""
AT_ONCE = 500
PATIENCE_SECONDS = 60
FAILURE = "0x80031004"
"""The SDK's code for a target with too few processors: final, so one attempt."""


@dataclass(frozen=True)
class Original:
    """What one real migration left."""

    record: dict[str, str]
    events: bytes
    """Its stream, as ``DUMP`` writes it."""


def originals(relay: Stage) -> list[Original]:
    """One that moved, one that failed, and one that was refused, of a relay at work."""
    from worker.app import app

    ask(relay.sockets[HOSTS[1]], "fault", fault={"kind": "fail", "code": FAILURE, "count": 9, "vm": "vm-1"})
    idents = []
    for domain, destination in (("vm-0", HOSTS[1]), ("vm-1", HOSTS[0]), ("nobody", HOSTS[0])):
        arguments = {"domain": domain, "destination": destination, "requested_by": "bench", "reason": "to be copied"}
        idents.append(str(uuid.uuid4()))
        app.send_task(MIGRATE, kwargs=arguments, task_id=idents[-1], queue=SCHEDULER_QUEUE)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while relay.journal.count("ended") < len(idents):
        if time.monotonic() > deadline:
            raise SystemExit(f"the migrations to be copied did not end in {PATIENCE_SECONDS} s")
        time.sleep(0.05)
    keys = [f"{relay.journal.prefix}m:{ident}" for ident in idents]
    with redis.Redis.from_url(relay.redis_url) as dumper:  # a dump is bytes, and the journal's client answers text
        return [Original(relay.journal.client.hgetall(key), dumper.dump(f"{key}:events")) for key in keys]


def fill(journal: Journal, found: Sequence[Original], number: int, seed: int = 1) -> None:
    """Write ``number`` copies below the journal's prefix: one in fifty failed, one in a hundred was refused."""
    dice, journal_now = random.Random(seed), int(journal.now() * 1000)  # noqa: S311 - a load, no secret
    kinds = dice.choices(found, weights=(97, 2, 1), k=number)
    times = sorted(journal_now - dice.randrange(DAYS * 86_400_000) for _ in range(number))
    for some in _parts(list(zip(kinds, times, strict=True))):
        pipe = journal.client.pipeline(transaction=False)
        for original, created in some:
            ident = str(uuid.UUID(int=dice.getrandbits(128), version=4))
            key, took = f"{journal.prefix}m:{ident}", dice.randrange(1_000, 300_000)
            pipe.hset(key, mapping=original.record | _own(dice, created, took))
            pipe.execute_command("RESTORE", f"{key}:events", 0, original.events)
            pipe.zadd(f"{journal.prefix}all", {ident: created})
            pipe.zadd(f"{journal.prefix}ended", {ident: created + took})
        pipe.execute()


def _own(dice: random.Random, created: int, took: int) -> dict[str, str]:
    """What tells one migration from another."""
    source, destination = dice.sample(FLEET, 2)
    guest = dice.randrange(5_000)
    return {
        "domain": f"vm{guest:04}",
        "uuid": str(uuid.UUID(int=guest, version=4)),
        "source": source,
        "destination": destination,
        "created": str(created),
        "started": str(created + took // 2),
        "ended": str(created + took),
        "requested_by": dice.choice(("shop", "ops", "planner")),
    }


def _parts(items: Sequence[tuple[Original, int]]) -> Iterator[Sequence[tuple[Original, int]]]:
    for first in range(0, len(items), AT_ONCE):
        yield items[first : first + AT_ONCE]
