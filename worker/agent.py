"""The agent: the one worker process that owns a host.

It takes the host's lease, opens the connection that lives as long as the migrations do, publishes which
domains the host has, and consumes the host's queue. A second agent for the same host refuses to start.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from wsgiref.simple_server import WSGIServer

import redis
import structlog

from worker import metrics
from worker.drain import Drain, Step
from worker.errors import RelayError, Unavailable
from worker.hypervisors import driver_for
from worker.hypervisors.base import Domain, Hypervisor
from worker.inventory import Host
from worker.journal import Journal, Record, connect
from worker.journal.scripting import unavailable
from worker.leaving import Leaving
from worker.liveness import birth, is_alive
from worker.measuring import Measuring
from worker.running import Running
from worker.runtime import Runtime, runtime
from worker.seal import Seal, load_key

logger = structlog.get_logger(__name__)

LOOKS = 3
"""How often a look that a migration's end overtook is repeated at once; the next one comes soon anyway."""
LOOK_SECONDS = 1.0
"""How often an agent compares what it does with what the journal says that it does."""
DRAIN_LOOK_SECONDS = 0.2
"""How often a draining agent looks whether anything touches its host."""


RAISED_SLOTS = 32
"""So many slots of both directions together can be had while the agent runs, whatever its settings say."""
SPARE_THREADS = 4
"""That no slot stands for."""
_looks: list[Callable[[Agent], None]] = []


def on_look(work: Callable[[Agent], None]) -> Callable[[Agent], None]:
    """Register work that every agent does before it consumes, and every second after."""
    _looks.append(work)
    return work


class Agent:
    """The owner of one host."""

    def __init__(self, host: Host, parts: Runtime, hypervisor: Hypervisor, seal: Seal) -> None:
        self.host = host
        self.settings = parts.settings
        self.inventory = parts.inventory
        self.journal = parts.journal
        self.hypervisor = hypervisor
        self.seal = seal
        self.incarnation = secrets.token_hex(8)
        self.draining = False
        """Told to stop: no begin, prepare or perform starts here any more."""
        self.running = Running()
        """The phases that this process runs now."""
        self.evicting = False
        """And waits no longer: performs that leave the host, or arrive at it, are aborted."""
        self.answers = True
        """Whether the host's hypervisor answered when it was last asked for its domains."""
        self.metrics_port = 0
        self.leaving = Leaving(host.name)
        metrics.expect_trouble(host.profile)
        if host.profile == "qemu":  # the one driver that tells of stalls
            metrics.expect_stalls(host.profile)
        self._metrics: WSGIServer | None = None
        self._renewed = 0.0
        self._ended = threading.Event()
        self._publishing = threading.Lock()
        self._look = threading.Event()
        # A lease that shares a client with the phases would wait behind them.
        self._lease_journal = Journal(connect(parts.settings.redis_url), parts.settings.key_prefix)

    # -- lease ------------------------------------------------------------------------------------

    def _card(self) -> dict[str, object]:
        return {
            "host": self.host.name,
            "incarnation": self.incarnation,
            "pid": os.getpid(),
            "node": socket.gethostname(),
            "process": birth(os.getpid()),
            "profile": self.host.profile,
            "draining": self.draining,
            "evicting": self.evicting,
            "answers": self.answers,
            "metrics_address": self.settings.metrics_address,
            "metrics_port": self.metrics_port,
            "threads": self.threads,
            "clock_offset_seconds": round(self._lease_journal.clock_offset(), 3) or 0.0,
        }

    @property
    def threads(self) -> int:
        """How many phases at once: finish and confirm must find a thread while every slot is in perform.

        Limits may be raised while the agent runs, up to what its threads allow (``slots.lua``).
        """
        limits = self.host.settings
        return max(limits.max_outgoing + limits.max_incoming, RAISED_SLOTS) + SPARE_THREADS

    @property
    def may_claim(self) -> bool:
        """Whether the lease is certainly still ours: a phase may be started."""
        return time.monotonic() - self._renewed < self.settings.lease_seconds

    def await_lease(self) -> bool:
        """Wait until a phase may be started, for as long as a lease lasts at most; whether it may.

        What comes as soon as Redis is reached again comes before the lease is renewed. Sent back, it would be
        sent again after ever longer pauses, while a guest may stand still.
        """
        deadline = time.monotonic() + self.settings.lease_seconds
        while not self.may_claim and time.monotonic() < deadline:
            if self._ended.wait(0.05):
                break
        return self.may_claim

    def take_lease(self) -> None:
        """Become the host's owner; waits for a lease that nobody renews any more.

        Raises ``Unavailable`` (``host-owned``) that says who the owner is.
        """
        deadline = time.monotonic() + self.settings.lease_seconds * 1.2
        while holder := self._renew():
            alive = is_alive(holder)
            if alive is False:
                logger.warning("taking over from a dead agent", host=self.host.name, pid=holder.get("pid"))
                self._lease_journal.unlease(self.host.name, str(holder["incarnation"]))
            elif alive or time.monotonic() >= deadline:
                self._contested()
                raise Unavailable(
                    f"host {self.host.name} is owned by the agent with pid {holder.get('pid')} on "
                    f"{holder.get('node')}; stop that one first",
                    code="host-owned",
                )
            else:
                self._ended.wait(0.2)

    def _renew(self) -> dict[str, object] | None:
        before = time.monotonic()
        holder = self._lease_journal.lease(self.host.name, self._card(), self.settings.lease_seconds)
        if holder is None:
            self._renewed = before
        return holder

    def _contested(self) -> None:
        with contextlib.suppress(redis.RedisError):  # a count; what follows from it does not wait
            self._lease_journal.contest(self.host.name)

    def _keep_lease(self) -> None:
        lost_it = False
        while not self._ended.wait(self.settings.lease_seconds / 5):
            try:
                holder = self._renew()
            except redis.RedisError as lost:
                logger.warning("lease not renewed", host=self.host.name, error=type(lost).__name__)
                continue
            if holder and not lost_it:
                self._contested()
            lost_it = holder is not None
            if holder:
                logger.error("lease lost", host=self.host.name, to=holder.get("node"), pid=holder.get("pid"))

    # -- what the host has ----------------------------------------------------------------------

    def publish(self) -> None:
        """Look at the host's domains and tell the schedulers; one look after the other."""
        with self._publishing:
            for _ in range(LOOKS):
                version, began = self.journal.inventory_version(self.host.name), self.journal.now()
                if self.journal.publish(self.host.name, version, self._domains(), began):
                    return

    def _domains(self) -> list[Domain]:
        """What the host has now; whether it answers at all is told with the lease, and to whoever scrapes."""
        try:
            found = self.hypervisor.domains()
        except RelayError as silent:
            self._answered(False, str(silent))
            raise
        self._answered(True)
        return found

    def _answered(self, now: bool, why: str = "") -> None:
        """Keep whether the hypervisor answers; a change is logged once, and told to the schedulers at once."""
        metrics.host_answers.labels(self.host.name).set(now)
        if now == self.answers:
            return
        self.answers = now
        if now:
            logger.info("the hypervisor answers again", host=self.host.name)
        else:
            logger.warning("the hypervisor does not answer; nothing is admitted", host=self.host.name, error=why)
        if self._renewed:
            with contextlib.suppress(redis.RedisError):  # the next round of the lease tells it
                self._renew()

    def _keep_published(self) -> None:
        while not self._ended.is_set():
            self._look.wait(self.settings.inventory_seconds)
            self._look.clear()
            if self._ended.is_set():
                return
            try:
                self.publish()
                leaving, entering = self.journal.load_of(self.host.name)
                metrics.running.labels(self.host.name, "out").set(leaving)
                metrics.running.labels(self.host.name, "in").set(entering)
            except RelayError:
                pass  # logged when it stopped answering; every look would say the same again
            except redis.RedisError as lost:
                logger.warning("domains not published", host=self.host.name, error=str(lost))

    def look_after(self) -> None:
        """Do what is registered with ``on_look``; what fails is logged, and tried again at the next look."""
        for work in _looks:
            try:
                work(self)
            except Exception as error:  # one migration that cannot be dealt with must not stop all others
                logger.warning("look failed", work=work.__name__, error=f"{type(error).__name__}: {error}"[:500])

    def _keep_looking(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            self.look_after()

    def _keep_measured(self) -> None:
        Measuring(self.host.name, self.hypervisor, self.journal, self.settings.planning).keep(self._ended)

    # -- life -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Take the lease, open the hypervisor, publish; then phases may come."""
        try:
            self.journal.load()
            self.take_lease()
            # Opening a hypervisor may take longer than a lease lasts.
            self._in_background(self._keep_lease)
            port = self.host.settings.metrics_port
            self._metrics, self.metrics_port = metrics.serve(self.settings.metrics_address, port)
            self.hypervisor.open()
            self.publish()
            self._renew()  # whoever waits for a complete card need not wait for the next round
        except BaseException as failure:
            self.stop()
            if isinstance(failure, redis.RedisError):
                raise unavailable(failure) from None
            raise
        self.look_after()
        self._in_background(self._keep_published)
        self._in_background(self._keep_looking)
        self._in_background(self._keep_measured)

    @staticmethod
    def _in_background(target: Callable[[], None]) -> None:
        threading.Thread(target=target, name=target.__name__.strip("_"), daemon=True).start()

    def drain(self, hurry: threading.Event) -> bool:
        """Take no new migrations; returns whether this agent has nothing left to do (see ``worker.drain``).

        ``hurry``: somebody asked a second time.
        """
        self.draining = True
        course = Drain(time.monotonic(), self.settings.drain_seconds, self.settings.drain_abort_seconds)
        while (step := course.step(time.monotonic(), hurry.is_set(), self._left())) not in (Step.DONE, Step.LEAVE):
            if step is Step.EVICT:
                logger.warning("aborting the migrations that are left", host=self.host.name)
                self.evicting = True
            else:
                self._ended.wait(DRAIN_LOOK_SECONDS)
        if step is Step.LEAVE:
            logger.error("migrations are left to recovery", host=self.host.name)
        return step is Step.DONE

    def _left(self) -> list[Record] | None:
        """What touches the host; ``None`` where Redis does not say, which is no reason to leave anything."""
        try:
            self._renew()
            return self.journal.touching(self.host.name)
        except redis.RedisError as lost:
            logger.warning("draining: Redis does not answer", error=type(lost).__name__)
            return None

    def stop(self) -> None:
        """Close the hypervisor and give the lease back."""
        self._ended.set()
        self._look.set()
        self.hypervisor.close()
        if self._metrics:
            self._metrics.shutdown()
        try:
            self.journal.unlease(self.host.name, self.incarnation)
        except redis.RedisError:
            logger.warning("lease left to lapse", host=self.host.name)


_current: Agent | None = None


def current() -> Agent:
    """The agent of this process. Raises ``Unavailable`` in any other kind of process."""
    if _current is None:
        raise Unavailable("phase tasks run in 'vmrelay agent HOST' only", code="no-agent")
    return _current


def run_agent(name: str) -> int:
    """Be the agent of the host ``name`` until told to stop; returns the exit code.

    Raises ``Rejected`` for an unknown host, ``Unavailable`` where it is owned, ``SettingsError``.
    """
    global _current  # noqa: PLW0603 - Celery calls the tasks, so they find their agent here
    from worker import process
    from worker.app import app

    app.loader.import_default_modules()  # what they register with agents is done before the first message is taken
    parts = runtime()
    host = parts.inventory.host(name)
    agent = Agent(host, parts, driver_for(parts.inventory.config(name)), load_key(parts.settings.key_file))
    agent.start()
    try:
        _current = agent

        def ready() -> None:
            logger.info("agent ready", host=name, profile=host.profile, metrics_port=agent.metrics_port)

        return process.run(f"agent-{name}", host.queue, agent.threads, ready=ready, drain=agent.drain)
    finally:
        agent.stop()
