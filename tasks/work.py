"""What each phase does at its host's hypervisor: a baton in, a baton out. Whatever goes wrong is raised or in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace

import redis
import structlog

from tasks import attempt, conclusion
from tasks.watch import JournalWatch
from worker.agent import Agent
from worker.contract import Baton, ErrorInfo
from worker.errors import Failed, HypervisorError, RelayError
from worker.hypervisors.base import DomainState, Move, Phase
from worker.hypervisors.flags import MigrateFlag
from worker.seal import open_documents

logger = structlog.get_logger(__name__)

Work = Callable[[Agent, Baton, JournalWatch], Baton]


def _begin(agent: Agent, baton: Baton, watch: JournalWatch) -> Baton:
    begun = agent.hypervisor.begin(move_of(agent, baton), watch)
    flags = baton.flags | (MigrateFlag.PAUSED if begun.paused else 0)
    return baton.model_copy(
        update={
            "flags": int(flags),
            "paused": begun.paused,
            "xml": agent.seal.seal(begun.xml.encode(), baton.context("xml")),
            "cookie": agent.seal.seal(begun.cookie, baton.context("cookie")),
        }
    )


def _prepare(agent: Agent, baton: Baton, watch: JournalWatch) -> Baton:
    prepared = agent.hypervisor.prepare(move_of(agent, baton), _xml(agent, baton), _cookie(agent, baton), watch)
    return baton.model_copy(
        update={"uri": prepared.uri, "cookie": agent.seal.seal(prepared.cookie, baton.context("cookie"))}
    )


def _perform(agent: Agent, baton: Baton, watch: JournalWatch) -> Baton:
    """Move the guest, or (OFFLINE) see that there is none: a definition is moved by the other phases."""
    if baton.flags & MigrateFlag.OFFLINE:
        _refuse_running(agent, baton)
    performed = agent.hypervisor.perform(
        move_of(agent, baton), _xml(agent, baton), baton.uri, _cookie(agent, baton), watch
    )
    return baton.model_copy(
        update={
            "xml": "",
            "cookie": agent.seal.seal(performed.cookie, baton.context("cookie")),
            "downtime_seconds": performed.downtime_seconds,
            "transferred_bytes": performed.transferred_bytes,
        }
    )


def _refuse_running(agent: Agent, baton: Baton) -> None:
    """Raises ``Failed`` where a domain was started before begin took its job; nobody can start it after that.

    libvirt would copy the definition of a running guest, and leave one that can be started a second time.
    """
    seen = agent.hypervisor.inspect(baton.uuid).state
    if seen is not DomainState.SHUTOFF:
        raise Failed(f"{baton.domain} is {seen} on {baton.source}; OFFLINE moves a stopped domain", code="not-offline")


def _finish(agent: Agent, baton: Baton, watch: JournalWatch) -> Baton:
    """Let the guest run here, or see what there is to undo. What it saw travels on as proof."""
    # A perform that failed returned no cookie; the one that prepare made for it says nothing to finish.
    cookie = b"" if baton.cancelled else _cookie(agent, baton)
    try:
        finished = agent.hypervisor.finish(move_of(agent, baton), cookie, baton.cancelled, watch)
    except RelayError as error:
        seen = look(agent, baton)
        first = baton.error or ErrorInfo.of(error, Phase.FINISH)
        return baton.model_copy(update={"error": first, "destination_state": seen})
    measured = {name: getattr(finished, name) for name in conclusion.MEASURED}
    return baton.model_copy(
        update={
            "error": _better_told(baton.error, finished.failure),
            "destination_state": finished.domain.state,
            "cookie": agent.seal.seal(finished.cookie, baton.context("cookie")),
        }
        | {name: value for name, value in measured.items() if value is not None}
    )


def _better_told(first: ErrorInfo | None, failure: HypervisorError | None) -> ErrorInfo | None:
    """The error to report. Of a stream that broke QEMU's source knows little, and libvirt prefers finish's word.

    Source: the end of ``virDomainMigrateVersion3Full``.
    """
    if first is not None and failure is not None and first.code == "VIR_ERR_OPERATION_FAILED":
        return ErrorInfo.of(failure, Phase.FINISH)
    return first


def _confirm(agent: Agent, baton: Baton, watch: JournalWatch) -> Baton:
    """Let the source go, or run on where that is proved to be safe; and look at it."""
    undo = baton.cancelled
    if undo and not _is_undone_here(agent, baton, watch):
        return baton.model_copy(update={"source_state": look(agent, baton)})
    try:
        cookie = b"" if undo else _cookie(agent, baton)
        seen = agent.hypervisor.confirm(move_of(agent, baton), cookie, undo, watch).state
        # Before perform nothing of ours has paused it.
        if undo and baton.performed and seen in (DomainState.PAUSED_OUT, DomainState.PAUSED) and not baton.paused:
            seen = agent.hypervisor.resume(baton.uuid).state
    except RelayError as error:
        first = baton.error or ErrorInfo.of(error, Phase.CONFIRM)
        return baton.model_copy(update={"error": first, "source_state": look(agent, baton)})
    return baton.model_copy(update={"source_state": seen} | _measured(agent, baton))


def _is_undone_here(agent: Agent, baton: Baton, watch: JournalWatch) -> bool:
    """Whether the source may be told to run on. Where it may not, both sides are looked at first."""
    if baton.error and baton.error.phase == Phase.BEGIN:
        return False
    if not baton.performed:
        return look(agent, baton) not in attempt.MOVED_ON
    # What is here as it was before is resumed by nothing: its job is freed, however old the look at the destination.
    waited = 0.0 if look(agent, baton) is baton.was else watch.waited_seconds
    return attempt.may_undo(baton, waited)


def _measured(agent: Agent, baton: Baton) -> dict[str, object]:
    """What the source alone knows: after post-copy the destination has no statistics."""
    if baton.cancelled or any(getattr(baton, name) is not None for name in conclusion.MEASURED):
        return {}
    return asdict(agent.hypervisor.measured(move_of(agent, baton)))


def tell(agent: Agent, baton: Baton) -> None:
    """Publish what is here after a failure: who looks now, or asks again at once, shall not see it migrate."""
    try:
        agent.publish()
    except (RelayError, redis.RedisError) as error:
        logger.warning("domains not published", migration=baton.migration, error=str(error))


def look(agent: Agent, baton: Baton) -> DomainState:
    """What this host shows of the domain now; ``UNKNOWN`` where it does not answer."""
    try:
        return agent.hypervisor.inspect(baton.uuid).state
    except RelayError as error:
        logger.warning("no look at the domain", migration=baton.migration, host=agent.host.name, code=error.code)
        return DomainState.UNKNOWN


def move_of(agent: Agent, baton: Baton) -> Move:
    """The value that the drivers take, its definitions opened."""
    return replace(baton.move, params=open_documents(agent.seal, baton.params, baton.migration))


def _xml(agent: Agent, baton: Baton) -> str:
    return agent.seal.open(baton.xml, baton.context("xml")).decode()


def _cookie(agent: Agent, baton: Baton) -> bytes:
    if not baton.cookie:  # a recovery has lost it; the hypervisor finds the domain all the same
        return b""
    return agent.seal.open(baton.cookie, baton.context("cookie"))


WORK: dict[Phase, Work] = {
    Phase.BEGIN: _begin,
    Phase.PREPARE: _prepare,
    Phase.PERFORM: _perform,
    Phase.FINISH: _finish,
    Phase.CONFIRM: _confirm,
}
