"""What webhooks are to be told, in the journal: noted by the scripts that end things, delivered by whoever leads."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from worker.journal.scripting import Scripts

COUNTED = ("delivered", "retried", "gave-up", "dropped", "refused")
"""What may come of a try (``worker.webhooks.policy.Result``)."""
NAMESPACE = uuid.UUID("6f1d5c1e-6a0b-5d0e-9a3c-0d2f0c1b7e55")
"""Of the ids of deliveries."""
GONE_SECONDS = 86400
"""What waits for a webhook that is no longer in the settings is kept so long, in case it was a slip."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Something that one webhook is to be told."""

    entry: str
    """As the journal has it: when it happened, what it is, and of what."""
    tries: int = 0
    """How often it failed."""
    failures: int = 0
    """How often the webhook failed since its last success, whatever it was to be told."""

    @property
    def id(self) -> str:
        """The same for every try, and for every webhook that is told."""
        return str(uuid.uuid5(NAMESPACE, self.entry))

    @property
    def at(self) -> float:
        """When it happened: a Unix time of Redis's clock."""
        return int(self.entry.split(" ", 2)[0]) / 1000

    @property
    def type(self) -> str:
        """``migration.succeeded`` and so on, or ``batch.finished``."""
        return self.entry.split(" ", 2)[1]

    @property
    def of(self) -> str:
        """The migration or batch."""
        return self.entry.split(" ", 2)[2]


@dataclass(frozen=True, slots=True)
class Standing:
    """How it goes with one webhook. Times are Unix times of Redis's clock, 0 for never."""

    waiting: int = 0
    oldest_seconds: float = 0.0
    """For how long the oldest delivery has waited."""
    failures: int = 0
    """How many times in a row it did not take what it was told."""
    pause_seconds: float = 0.0
    """Until it is tried again."""
    error: str = ""
    """What went wrong when it last did."""
    failed: float = 0.0
    told: float = 0.0
    """When something was last delivered."""
    counts: tuple[tuple[str, int], ...] = ()
    """How many deliveries came to what, of ``COUNTED``."""


class Webhooks(Scripts):
    """The outbox of webhooks."""

    def name_webhooks(self, wishes: Mapping[str, tuple[Collection[str], Collection[str], int]]) -> int:
        """Say which webhooks there are: what each is told, of which hosts (of all where none), how much may wait.

        Answers how many are gone (``webhook-names.lua``).
        """
        told: list[str] = []
        for name, (tells, hosts, most) in wishes.items():
            wish = {"tells": dict.fromkeys(sorted(tells), True), "hosts": dict.fromkeys(sorted(hosts), True)}
            told += [name, json.dumps(wish | {"most": most})]
        return int(self._run("webhook-names", "", GONE_SECONDS, *told)[1])

    def take_delivery(self, name: str, hold_seconds: float, give_up_seconds: float) -> Delivery | None:
        """What a webhook is to be told next, for whoever asks, for so long; ``None`` where nothing is due.

        See ``webhook-take.lua``.
        """
        answer = self._run("webhook-take", "", name, int(hold_seconds * 1000), int(give_up_seconds * 1000))
        return None if answer[0] == "NONE" else Delivery(str(answer[1]), int(answer[2]), int(answer[3]))

    def note_delivery(
        self, name: str, delivery: Delivery, result: str, said: str, again: float = 0.0, pause: float = 0.0
    ) -> bool:
        """Write down what came of a try; false where that delivery waits no more (``webhook-note.lua``).

        ``again`` and ``pause``: seconds until the delivery, and the webhook, is tried again where it was ``retried``.
        """
        waits = (int(again * 1000), int(pause * 1000))
        return bool(self._run("webhook-note", "", name, delivery.entry, result, said[:500], *waits)[0] == "OK")

    def webhooks(self, names: Collection[str]) -> dict[str, Standing]:
        """How it goes with each of these."""
        pipe = self.client.pipeline(transaction=False)
        pipe.time()
        for name in names:
            pipe.hgetall(self._key("webhook", name))
            pipe.zcard(self._key("webhook", name, "waiting"))
            pipe.zrange(self._key("webhook", name, "waiting"), 0, 0, withscores=True)
        (seconds, micros), *rest = pipe.execute()
        now = float(seconds) + float(micros) / 1e6
        rows = zip(names, rest[::3], rest[1::3], rest[2::3], strict=True)
        return {name: _standing(raw, int(waiting), oldest, now) for name, raw, waiting, oldest in rows}


def _standing(raw: Mapping[str, str], waiting: int, oldest: Any, now: float) -> Standing:  # noqa: ANN401 - redis-py's
    def at(name: str) -> float:
        return float(raw.get(name) or 0) / 1000

    return Standing(
        waiting=waiting,
        oldest_seconds=max(now - oldest[0][1] / 1000, 0.0) if oldest else 0.0,
        failures=int(raw.get("failures") or 0),
        pause_seconds=max(at("until") - now, 0.0),
        error=raw.get("error", ""),
        failed=at("failed"),
        told=at("told"),
        counts=tuple((name, int(raw.get(name) or 0)) for name in COUNTED),
    )
