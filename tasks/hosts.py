"""The task with which an operator closes hosts to what is new, and opens them again: ``vmrelay.v1.host``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog
from celery import Task

from tasks import cordons
from tasks.watch import patiently
from worker.app import app
from worker.contract import HOST, HostRequest
from worker.errors import Rejected, RelayError
from worker.inventory import Host
from worker.journal.cordons import IN_SETTINGS
from worker.runtime import Runtime, runtime

logger = structlog.get_logger(__name__)


@app.task(bind=True, name=HOST, typing=False, ignore_result=False, throws=(RelayError,))
def host(self: Task[..., Any], /, *args: object, **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401
    """Cordon or uncordon hosts; arguments are the fields of ``HostRequest``.

    Answers ``{"action", "hosts": {name: {"changed", "turned_away", "cordon"}}}``: whether anything changed, how many
    migrations that waited towards it were ended, and the cordon in force now, or null. All hosts are judged before
    the first is changed.
    """
    try:
        return patiently(_asked, runtime(), HostRequest.parse(by_name(HOST, args, kwargs)))
    except Rejected as refusal:
        raise refusal.with_code() from None


def by_name(task: str, args: tuple[object, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """A task's arguments. Raises ``Rejected`` (``malformed``) where some were given by their place."""
    if args:
        raise Rejected(f"the arguments of {task} are given by name", code="malformed")
    return kwargs


def _asked(parts: Runtime, request: HostRequest) -> dict[str, Any]:
    hosts = [parts.inventory.host(name) for name in dict.fromkeys(request.hosts)]
    if request.action == "uncordon":
        for each in hosts:
            refuse_uncordon(parts, each)
    done = {each.name: _changed(parts, each, request) for each in hosts}
    logger.info(request.action, hosts=list(done), by=request.requested_by)
    return {"action": request.action, "hosts": done}


def _changed(parts: Runtime, host: Host, request: HostRequest) -> dict[str, Any]:
    journal, turned_away = parts.journal, 0
    if request.action == "cordon":
        changed = journal.cordon(host.name, request.requested_by, request.reason)
        turned_away = cordons.turn_away_from(parts, host.name)
    else:
        changed = journal.uncordon(host.name)
    cordon = cordons.cordon_of(parts, host)
    return {"changed": changed, "turned_away": turned_away, "cordon": cordon.document() if cordon else None}


def refuse_uncordon(parts: Runtime, host: Host) -> None:
    """Raises ``Rejected`` where the settings cordon a host, or a drain that is not over needs the cordon."""
    if host.settings.cordoned:
        raise Rejected(
            f"{host.name} is cordoned by the settings, which nothing that runs can change; "
            f"{cordons.way_out(host.name, IN_SETTINGS)}",
            code="cordoned-by-settings",
        )
    if drain := drained_by(parts, host.name):
        raise Rejected(
            f"{host.name} is being drained by batch {drain}, which would not end while guests arrive; "
            f"cancel it first (vmrelay batch cancel {drain})",
            code="draining",
        )


def drained_by(parts: Runtime, host: str) -> str:
    """The drain of a host that is not over; empty where there is none."""
    cordon = parts.journal.cordon_of(host)
    batch = parts.journal.batch(cordon.batch) if cordon and cordon.batch else None
    return batch.id if batch and batch.state != "finished" else ""


def refuse_drain(parts: Runtime, names: Sequence[str]) -> None:
    """Raises ``Rejected`` where one of these hosts is being drained (``draining``), or where no host would be left for
    their guests (``nowhere-to-go``).
    """
    leaving = [parts.inventory.host(name) for name in dict.fromkeys(names)]
    for host in leaving:
        if drain := drained_by(parts, host.name):
            raise Rejected(
                f"{host.name} is being drained by batch {drain} already; follow it (vmrelay batch watch {drain}), or "
                f"cancel it (vmrelay batch cancel {drain})",
                code="draining",
            )
    live = parts.journal.cordons()
    for kind in sorted({host.profile for host in leaving}):
        others = [host for host in parts.inventory.values() if host.profile == kind and host not in leaving]
        shut = [host.name for host in others if host.settings.cordoned or host.name in live]
        if len(shut) < len(others):
            continue
        drained = ", ".join(host.name for host in leaving if host.profile == kind)
        why = f"all others of this kind are cordoned ({', '.join(shut)})" if shut else "there is no other of this kind"
        raise Rejected(
            f"nothing could leave {drained} ({kind}): {why}; drain fewer hosts at once, or uncordon one first",
            code="nowhere-to-go",
        )
