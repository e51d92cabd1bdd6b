"""The task with which an operator changes how many migrations may run at once: ``vmrelay.v1.limits``."""

from __future__ import annotations

from typing import Any

import structlog
from celery import Task

from tasks.hosts import by_name
from tasks.watch import patiently
from worker.app import app
from worker.contract import LIMITS, LimitsRequest
from worker.errors import Rejected, RelayError
from worker.runtime import Runtime, runtime

logger = structlog.get_logger(__name__)

MOST_PER_HOST, MOST = 64, 100_000
"""What a limit may be set to: of a direction of a host, and of anything else."""


@app.task(bind=True, name=LIMITS, typing=False, ignore_result=False, throws=(RelayError,))
def limits(self: Task[..., Any], /, *args: object, **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401
    """Change limits while everything runs; arguments are the fields of ``LimitsRequest``, all of them optional.

    Answers ``{"changed", "limits"}``: how many were named, and all limits in force, for hosts, networks and migrations
    each ``{"used", "limit", "asked"}``. What runs over a lowered limit runs on; nothing starts until there is room.
    """
    try:
        return _asked(runtime(), LimitsRequest.parse(by_name(LIMITS, args, kwargs)))
    except Rejected as refusal:
        raise refusal.with_code() from None


def _asked(parts: Runtime, request: LimitsRequest) -> dict[str, Any]:
    changes = changes_of(parts, request)
    told = patiently(parts.journal.limits, parts.inventory.terms, changes)
    if changes:
        logger.info("limits changed", by=request.requested_by, **{name: str(limit) for name, limit in changes.items()})
    return {"changed": len(changes), "limits": told}


def changes_of(parts: Runtime, request: LimitsRequest) -> dict[str, int | None]:
    """What a request changes, by the journal's names. Raises ``Rejected`` for what there is not, or cannot be."""
    changes: dict[str, int | None] = {}
    for prefix, named in (("out:", request.outgoing), ("in:", request.incoming)):
        for host, limit in named.items():
            parts.inventory.host(host)
            changes[prefix + host] = _within(f"{host}", limit, MOST_PER_HOST)
    for network, limit in request.networks.items():
        known = parts.inventory.terms.network_names
        if network not in known:
            raise Rejected(
                f"unknown migration network '{network[:80]}'; the hosts have {', '.join(known) or 'none'} "
                "(network of [hosts.NAME])",
                code="unknown-network",
            )
        changes["net:" + network] = _within(network, limit, MOST)
    if "migrations" in request.cluster:
        changes["all"] = _within("all migrations", request.cluster["migrations"], MOST)
    return changes


def _within(name: str, limit: int | None, most: int) -> int | None:
    if limit is not None and not 0 <= limit <= most:
        raise Rejected(f"a limit of {limit} for {name} cannot be: name 0 to {most}", code="malformed")
    return limit
