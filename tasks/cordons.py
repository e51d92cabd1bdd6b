"""Cordons, in the settings or said while everything runs: nothing new is sent to such a host.

A request towards it is refused. A migration that was accepted before and still waits, for slots or for its next
attempt, is ended: at once when the host is cordoned, and by the script that would start it, which reads the cordon
in the same step. So nothing starts towards a host once its cordon was answered; what runs then, ends as it does.
"""

from __future__ import annotations

import structlog

from tasks import results
from worker import metrics
from worker.errors import Rejected
from worker.inventory import Host
from worker.journal import Record
from worker.journal.cordons import IN_SETTINGS, Cordon
from worker.runtime import Runtime
from worker.scheduler import seldom

logger = structlog.get_logger(__name__)

WAITING = ("pending", "backoff")


def cordon_of(parts: Runtime, host: Host) -> Cordon | None:
    """The cordon in force; what the settings say is told first, since ``uncordon`` cannot undo it."""
    return IN_SETTINGS if host.settings.cordoned else parts.journal.cordon_of(host.name)


def refuse_cordoned(host: str, cordon: Cordon | None) -> None:
    """Raises ``Rejected`` (``cordoned``) where there is a cordon: by whom, why, and how to undo it."""
    if cordon is None:
        return
    by = f" {cordon.words}" if cordon.words else ""
    raise Rejected(f"{host} is cordoned{by}; name another host, or {way_out(host, cordon)}", code="cordoned")


def way_out(host: str, cordon: Cordon) -> str:
    """How a cordon is undone."""
    if cordon.settings:
        return f"take cordoned out of [hosts.{host}] and restart the schedulers"
    return f"uncordon it (vmrelay hosts uncordon {host})"


def turn_away(parts: Runtime, record: Record) -> bool:
    """End a migration that waits towards a cordoned host; false where it does not wait, or its host is free again.

    One that was never started is rejected, since no host was touched; one that was has failed, its guest being safe
    on its source.
    """
    cordon = cordon_of(parts, parts.inventory.host(record.destination))
    if cordon is None or record.state not in WAITING:
        return False
    by = f" {cordon.words}" if cordon.words else ""
    end = {
        "outcome": "failed" if record.attempt else "rejected",
        "reason": "cordoned",
        "error": f"{record.destination} was cordoned{by} while the migration waited; ask again with another "
        f"destination, or {way_out(record.destination, cordon)} and ask again",
    }
    keep = parts.settings.keep_seconds
    if not parts.journal.turn_away(record.id, end, keep, by_settings=cordon.settings):
        return False
    logger.info("turned away", migration=record.id, destination=record.destination)
    if ended := parts.journal.record(record.id):
        results.store(parts.journal, ended)
    return True


@seldom
def show_cordons(parts: Runtime) -> None:
    """Serve which hosts take nothing."""
    live = parts.journal.cordons()
    for name, host in parts.inventory.items():
        metrics.host_cordoned.labels(name).set(host.settings.cordoned or name in live)


def turn_away_from(parts: Runtime, host: str) -> int:
    """End all that wait towards a host that was cordoned; how many there were."""
    return sum(turn_away(parts, record) for record in parts.journal.waiting_for(host))
