"""What an agent does so that planning knows what its guests use: look, and publish, for as long as it lives."""

from __future__ import annotations

import threading

import structlog

from worker.hypervisors.base import Hypervisor
from worker.journal import Journal
from worker.loads import History
from worker.settings import PlanningSettings

logger = structlog.get_logger(__name__)

KEEP_SECONDS = 3600.0
"""What is published outlives its agent: for the one that is started next, and for hosts that its guests moved to."""

SECOND_LOOK_SECONDS = 1.0
"""A rate takes two looks: the second one comes soon, so that a host whose agent has just started is not unknown."""


class Measuring:
    """Looks of one agent at what the guests of its host use."""

    def __init__(self, host: str, hypervisor: Hypervisor, journal: Journal, planning: PlanningSettings) -> None:
        self._host, self._hypervisor, self._journal = host, hypervisor, journal
        self._every, self._window = planning.load_seconds, planning.load_window_seconds
        self._history: History | None = None
        self._failing = False

    def keep(self, ended: threading.Event) -> None:
        """Look and publish until told to end. What fails is logged once, until it goes well again."""
        pause = min(self._every, SECOND_LOOK_SECONDS)
        while not ended.is_set():
            try:
                self.look()
            except Exception as error:  # a statistic that is missing stops nothing
                if not (self._failing or ended.is_set()):
                    told = f"{type(error).__name__}: {error}"[:500]
                    logger.warning("loads not measured; planning uses the last ones", host=self._host, error=told)
                self._failing = True
            else:
                self._failing = False
            ended.wait(pause)
            pause = self._every

    def look(self) -> None:
        """One look, published. Raises ``HypervisorError``, ``redis.RedisError``."""
        usage = self._hypervisor.usage()
        now = self._journal.now()
        if self._history is None:
            history = History(self._window)
            if before := self._journal.loads([self._host]).get(self._host):
                history.resume(before, usage.at, max(now - before.at / 1000, 0.0))
            self._history = history
        self._history.add(usage)
        self._journal.publish_load(self._host, self._history.load(int(now * 1000)), max(KEEP_SECONDS, 2 * self._window))
