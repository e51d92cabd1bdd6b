"""What a recovery sees on one visit to one of its hosts, and what follows from that."""

from __future__ import annotations

from typing import Any, NamedTuple

import structlog

from tasks import recovery
from tasks.recovery import Action, Do, Interrupted, Shown, Side, Stage, View
from tasks.watch import JournalWatch, patiently
from worker.agent import Agent
from worker.contract import RECOVER, Baton, Look, Recovering
from worker.errors import RelayError
from worker.hypervisors.flags import MigrateFlag

logger = structlog.get_logger(__name__)


class Case(NamedTuple):
    """One visit of a recovery to one of its hosts."""

    agent: Agent
    baton: Baton
    token: str
    watch: JournalWatch
    side: Side
    decided: tuple[Action, ...] = ()
    """What was decided in this visit, in order."""

    @property
    def known(self) -> Recovering:
        """What the recovery knows so far."""
        assert self.baton.recovery is not None  # noqa: S101  (checked when the message came)
        return self.baton.recovery

    @property
    def stage(self) -> Stage:
        """How far the attempt was."""
        return Stage(self.known.stage)

    def with_(self, **known: object) -> Case:
        """The same, knowing more."""
        told = self.known.model_copy(update=known)
        return self._replace(baton=self.baton.model_copy(update={"recovery": told}))

    def with_baton(self, **fields: object) -> Case:
        """The same with another baton."""
        return self._replace(baton=self.baton.model_copy(update=fields))

    def host(self, side: Side) -> str:
        """The name of a side's host."""
        return self.baton.source if side is Side.SOURCE else self.baton.destination

    def seen(self, side: Side) -> View | None:
        """The last look at a side."""
        look = self.known.source if side is Side.SOURCE else self.known.destination
        return View(Shown(look.shown), look.at, look.busy) if look else None

    def interrupted(self) -> Interrupted:
        """What the journal says."""
        table = recovery.table_of(self.agent.host.profile, self.baton.flags)
        paused = self.baton.paused or bool(self.baton.flags & MigrateFlag.PAUSED)
        return Interrupted(table, self.stage, paused, self.watch.cancelled, self.known.still, self.baton.recoveries)


def decided(case: Case) -> Action:
    """The next action; a side that nobody can be sent to look at is unreachable, not unknown."""
    now = patiently(case.agent.journal.now)
    action = recovery.decide(case.interrupted(), case.seen(Side.SOURCE), case.seen(Side.DESTINATION), now)
    if action.do is Do.LOOK and action.side is case.side.other and not has_agent(case, action.side):
        unseen = case.with_(**{action.side: Look(shown=Shown.UNREACHABLE, at=now)})
        return recovery.decide(case.interrupted(), unseen.seen(Side.SOURCE), unseen.seen(Side.DESTINATION), now)
    return action


def has_agent(case: Case, side: Side) -> bool:
    """Whether somebody can be sent to look at a side."""
    host = case.host(side)
    return bool(patiently(case.agent.journal.agents, [host]))


def look(case: Case) -> Case:
    """A fresh look at this side."""
    agent, uuid_ = case.agent, case.baton.uuid
    busy = agent.running.busy_with(case.baton.migration, case.token)
    try:
        expected = case.baton.domain if case.side is Side.SOURCE else case.baton.move.destination_name
        shown = recovery.shown(agent.hypervisor.inspect(uuid_), expected)
    except RelayError as silent:
        logger.warning("no look at the domain", migration=case.baton.migration, code=silent.code)
        shown = Shown.UNREACHABLE
    now = patiently(agent.journal.now)
    before = case.seen(case.side)
    still = case.known.still if before and before.shown is shown else now
    return case.with_(**{case.side: Look(shown=shown, at=now, busy=busy)}, still=still)


def assume(case: Case) -> Case:
    """An operator answers for a host that is down for good: nothing is there."""
    other = case.side.other
    if given_up(case, other):
        now = patiently(case.agent.journal.now)
        return case.with_(**{other: Look(shown=Shown.ABSENT, at=now, assumed=True)})
    before = dict(_looks(case))[other]
    return case.with_(**{other: None}) if before and before.assumed else case


def given_up(case: Case, side: Side) -> bool:
    """Whether an operator answers for a side's host, and it is not back: then it is looked at."""
    host = case.host(side)
    if host not in case.known.dead:
        return False
    card = patiently(case.agent.journal.agents, [host]).get(host)
    return card is None or not card.get("answers", True)


def word(view: View | None) -> str:
    """What was seen, for people."""
    return view.shown if view else "not seen"


def told_of(case: Case) -> dict[str, Any]:
    """What the journal keeps of this visit; ``idle``: nothing was done but to look and to wait."""
    idle = bool(case.decided) and all(action.do in (Do.LOOK, Do.WAIT) for action in case.decided)
    return {
        "phase": RECOVER,
        "host": case.agent.host.name,
        "attempt": case.baton.attempt,
        "seconds": 0.0,
        "stage": case.stage,
        "source": word(case.seen(Side.SOURCE)),
        "destination": word(case.seen(Side.DESTINATION)),
        "decided": [{"action": action.do, "side": action.side, "why": action.why} for action in case.decided],
        "assumed": [side for side, seen in _looks(case) if seen is not None and seen.assumed],
    } | ({"idle": True} if idle else {})


def _looks(case: Case) -> tuple[tuple[Side, Look | None], ...]:
    return (Side.SOURCE, case.known.source), (Side.DESTINATION, case.known.destination)
