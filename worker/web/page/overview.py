"""From a look at the journal to the overview page: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from worker.cli import batch_words, words
from worker.cli.words import clean
from worker.contract import RECOVER
from worker.fleet.used import percent
from worker.hints import way_on
from worker.hypervisors.base import Phase
from worker.journal.batch import Batch
from worker.journal.cordons import Cordon
from worker.journal.glances import Glance
from worker.journal.record import Record
from worker.web.page.view import Item, Value, View, item

Host = Mapping[str, Any]
"""A host as ``worker.overview.described`` shows it."""
Census = Mapping[str, tuple[int, float]]
"""What stands in line by priority: how many, and since when the oldest does."""
PRIORITIES = ("urgent", "high", "normal", "low")
WARM, HOT = 75, 90
"""Percent of what a host has for guests, from which on its bar is drawn in another colour."""
USUAL = ("running",)
IN_MOTION = ("running", "arriving", "migrating", "paused-in", "paused-out")
"""States of a guest that need no word: of one that stays, and of one whose move is shown."""
CLOSED = {"down": "its agent is away", "no answer": "its hypervisor does not answer", "draining": "its agent drains"}


def overview(glance: Glance, hosts: Sequence[Host], census: Census) -> View:
    """Everything on the overview page, but for ``trouble``: what is wrong with reading it."""
    by_name = {str(host["name"]): host for host in hosts}
    moving = [record for record in glance.active if record.state in ("active", "backoff")]
    # A glance takes two steps: what has gone on between them is shown where it is by the next one.
    queue = [record for record in glance.pending if record.state == "pending"]
    queue.sort(key=lambda each: (PRIORITIES.index(each.priority), each.created, each.id))
    lists: dict[str, Iterable[tuple[str, Item]]] = {
        "doubts": [(f"d/{each.id}", _doubt(each, since)) for each, since in glance.doubts if each.state == "in-doubt"],
        "moving": [(f"m/{each.id}", moving_item(each)) for each in moving],
        "hosts": [(f"h/{name}", _host(host)) for name, host in by_name.items()],
        "census": [(f"c/{name}", _standing(name, *census[name])) for name in PRIORITIES if name in census],
        "queue": [(f"q/{each.id}", _waiting(each, by_name)) for each in queue],
        "batches": [(f"b/{each.id}", _batch(each)) for each in glance.batches],
        "recent": [(f"r/{each.id}", _ended(each)) for each in glance.ended if each.state == "ended"],
    }
    lists |= {f"guests/{name}": list(_guests(host, [*moving, *queue])) for name, host in by_name.items()}
    items = {key: fields for listed in lists.values() for key, fields in listed}
    items["page"] = _page(glance, hosts)
    return View(items, {name: tuple(key for key, _ in listed) for name, listed in lists.items() if listed})


def _page(glance: Glance, hosts: Sequence[Host]) -> Item:
    running = glance.counts.get("active", 0) + glance.counts.get("due", 0)
    waiting, doubt = glance.counts.get("pending", 0), glance.counts.get("doubt", 0)
    shown = sum(each.state in ("active", "backoff") for each in glance.active)
    return item(
        moving=running,
        waiting=waiting,
        doubt=doubt,
        in_doubt=doubt > 0,
        hosts=len(hosts),
        guests=sum(len(host["domains"]) for host in hosts),
        more_moving=_more(running, shown),
        more_waiting=_more(waiting, len(glance.pending)),
        idle=not running,
        figures=any(each.progress.get("bandwidth_bytes_per_second") for each in glance.active),
        no_queue=not waiting,
        no_batches=not glance.batches,
        no_recent=not glance.ended,
        trouble="" if glance.scheduler else "No scheduler leads: what is asked for waits. See 'vmrelay doctor'.",
    )


def _more(number: int, shown: int) -> str:
    return f"and {number - shown} more" if number > shown else ""


# -- migrations -------------------------------------------------------------------------------------------


def clock(at: float) -> str:
    """A time of day, as this machine's clock has it."""
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%H:%M:%S")


def link(ident: str) -> str:
    """Where a migration's own page is."""
    return f"/m/{quote(ident, safe='')}"


def _basics(record: Record) -> dict[str, Value | None]:
    """What all that is shown of a migration has in common."""
    return {
        "id": record.id,
        "href": link(record.id),
        "domain": clean(record.domain),
        "source": clean(record.source),
        "destination": clean(record.destination),
        "priority": record.priority if record.priority != "normal" else "",
        "batch": record.batch,
        "by": clean(record.requested_by),
    }


def stage(record: Record) -> str:
    """One word for how a migration that runs stands; the page has a look for each."""
    if record.state == "backoff":
        return "backoff"
    if record.waiting:
        return "waits"
    if record.phase == RECOVER:
        return "recovers"
    if record.phase == Phase.PERFORM:
        return "stalled" if record.stalled else "moves"
    return "prepares" if record.phase in (Phase.BEGIN, Phase.PREPARE) else "finishes"


def share(record: Record) -> int | None:
    """How far it is in percent; ``None`` where nobody counts it."""
    if record.state != "active" or record.phase in (Phase.BEGIN, Phase.PREPARE):
        return 0
    if record.phase in (Phase.FINISH, Phase.CONFIRM):
        return 100
    if words.uncounted(record.progress):
        return None
    return min(max(int(record.progress.get("percent", 0)), 0), 100)


def moving_item(record: Record) -> Item:
    """A migration that runs, or is between two attempts."""
    now, figures = stage(record), record.progress if words.is_moving(record.state, record.phase) else {}
    done = share(record)
    return item(
        **_basics(record),
        stage=now,
        phase=_phase(record),
        doing=_doing(record),
        percent=done,
        percent_text="…" if done is None else f"{done} %",
        at="50%" if done is None else f"{done}%",
        rate=_figure(figures, "bandwidth_bytes_per_second", lambda n: f"{words.size(n)}/s"),
        left=_figure(figures, "remaining_bytes", words.size),
        downtime=_figure(figures, "expected_downtime_seconds", words.duration),
        since=record.started / 1000 if record.started else None,
        note=_note(record),
        **way_out(record),
        cancel_label=f"Cancel {clean(record.domain)}",
    )


def _figure(figures: Mapping[str, Any], name: str, say: Any) -> str:  # noqa: ANN401 - a function
    return str(say(figures[name])) if figures.get(name) else ""


def _doing(record: Record) -> str:
    """The phase in a word or two, where the hosts are to be seen anyway."""
    if record.state == "backoff":
        return "next attempt follows"
    phase = "recovery" if record.phase == RECOVER else record.phase
    return f"{phase}, stopping" if record.cancel else phase


def _phase(record: Record) -> str:
    if record.state == "backoff":
        return f"attempt {record.attempt} of {record.attempts_allowed} failed"
    doing = words.doing({"phase": record.phase, "host": clean(record.host)})
    return f"{doing}, cancelling" if record.cancel else doing


def _note(record: Record) -> str:
    """What keeps it, or went wrong with it so far."""
    if record.state == "backoff":
        return clean(record.error) or "the next attempt follows"
    if record.waiting:
        return f"waits for {clean(words.waits(record.waiting))}"
    if record.phase == Phase.PERFORM and record.stalled:
        return clean(words.line_of("stalled", record.stalled) or "")
    return f"attempt {record.attempt}" if record.attempt > 1 else ""


def _doubt(record: Record, since: float) -> Item:
    return item(**_basics(record), **way_out(record), error=clean(record.error), since=since)


def way_out(record: Record) -> dict[str, Value | None]:
    """What an operator does about it as ``todo``, and how it is typed as ``command``; empty where nothing is to do."""
    # From the right: a guest may be named like a command, hosts and ids are not.
    todo, command, rest = clean(way_on(record)).rpartition("vmrelay ")
    return {"todo": todo.strip(), "command": f"{command}{rest}" if command else ""}


def _waiting(record: Record, hosts: Mapping[str, Host]) -> Item:
    return item(
        **_basics(record),
        since=record.created / 1000,
        why=held_up(record, hosts),
        shown=record.priority,
        cancel_label=f"Cancel {clean(record.domain)}",
    )


def held_up(record: Record, hosts: Mapping[str, Host]) -> str:
    """What one that waits for slots waits for."""
    why = []
    for name, kind, verb in ((record.source, "outgoing", "leave"), (record.destination, "incoming", "enter")):
        host = hosts.get(name)
        if host is None:
            why.append(f"{clean(name)}: not in this inventory")
        elif host["agent"] in CLOSED:
            why.append(f"{name}: {CLOSED[host['agent']]}")
        elif host[kind] >= host[f"max_{kind}"]:
            why.append(f"a slot to {verb} {name}")
    return "; ".join(why) or "its turn"


def _ended(record: Record) -> Item:
    failed = record.outcome != "succeeded"
    return item(
        **_basics(record),
        outcome=record.outcome,
        code=record.reason if failed else "",
        error=clean(record.error) if failed else clean(record.warning),
        took=words.duration(record.seconds) if record.seconds is not None else "",
        downtime=words.duration(record.downtime_seconds) if record.downtime_seconds is not None else "",
        since=record.ended / 1000 if record.ended else None,
    )


def _standing(priority: str, number: int, since: float) -> Item:
    return item(priority=priority, number=number, since=since)


# -- hosts ------------------------------------------------------------------------------------------------


def _host(host: Host) -> Item:
    load = host["load"] or {}
    cordon = Cordon(**host["cordon"]) if host["cordon"] else None
    name, away, draining = host["name"], host["homes_away"], host["draining"]
    return item(
        **_meter("cpu", load.get("cpu")),
        **_meter("memory", load.get("memory")),
        name=name,
        driver=host["driver"],
        agent=host["agent"],
        away=host["agent"] != "up",
        outgoing=f"{host['outgoing']}/{host['max_outgoing']}",
        incoming=f"{host['incoming']}/{host['max_incoming']}",
        waiting=f"{words.many(host['waiting'], 'migration')} can only go on when it is back" if host["waiting"] else "",
        cordoned=bool(cordon),
        cordon=clean(f"cordoned {cordon.words}".strip()) if cordon else "",
        draining=f"being drained ({draining[:8]})" if draining else "",
        homes=f"{words.many(away, 'guest')} away from home" if away else "",
        number=words.many(len(host["domains"]), "guest"),
        guests=f"guests/{name}",
        open=not cordon,
        can_uncordon=bool(cordon and not cordon.settings and not draining),
        can_drain=not draining,
        cordon_label=f"Cordon {name}…",
        uncordon_label=f"Uncordon {name}",
        drain_label=f"Drain {name}…",
    )


def _meter(name: str, used: float | None) -> dict[str, Value | None]:
    """How full a host is in one way, as text and as a bar."""
    value = None if used is None else min(max(round(used * 100), 0), 100)
    return {
        name: percent(used),
        f"{name}_value": value,
        f"{name}_at": f"{value or 0}%",
        f"{name}_level": "" if value is None else "hot" if value >= HOT else "warm" if value >= WARM else "",
    }


def _guests(host: Host, held: Sequence[Record]) -> Iterable[tuple[str, Item]]:
    """A host's guests by name, with those that are on their way to it."""
    name = str(host["name"])
    moves = {record.uuid: record for record in held if name in (record.source, record.destination)}
    told = {str(domain["uuid"]): domain for domain in host["domains"]}
    named = {uuid: str(domain["name"]) for uuid, domain in told.items()} | {
        uuid: record.domain
        for uuid, record in moves.items()
        if uuid not in told and record.destination == name and record.state == "active"
    }
    for uuid, domain in sorted(named.items(), key=lambda each: (each[1], each[0])):
        yield f"g/{name}/{uuid}", _guest(domain, told.get(uuid), moves.get(uuid), name)


def _guest(domain: str, told: Mapping[str, Any] | None, record: Record | None, host: str) -> Item:
    state = str(told["state"]) if told else "arriving"
    memory = words.size(told["memory_bytes"]) if told and told.get("memory_bytes") else ""
    return item(
        name=clean(domain),
        odd=state if state not in (USUAL if record is None else IN_MOTION) else "",
        title=", ".join(filter(None, (clean(domain), state, memory))),
        kind=_kind(record, host) if record else "",
        hop=_hop(record, host) if record else "",
        href=link(record.id) if record else "",
    )


def _kind(record: Record, host: str) -> str:
    if record.state == "pending":
        return "waits" if record.source == host else ""
    return "leaving" if record.source == host else "arriving"


def _hop(record: Record, host: str) -> str:
    """Where a guest goes or comes from."""
    if record.state == "pending":
        return "waits" if host == record.source else ""
    return f"→ {clean(record.destination)}" if host == record.source else f"← {clean(record.source)}"


# -- batches ----------------------------------------------------------------------------------------------


def _batch(batch: Batch) -> Item:
    over = batch.state == "finished"
    return item(
        id=batch.id,
        what=clean(batch_words.what(batch)),
        state=batch.state,
        counts=batch_words.counts(batch),
        running=f"{batch.asked} asked for, {batch.waiting} wait" if not over else "",
        percent=100 * batch.done // batch.total if batch.total else (100 if over else 0),
        about=": ".join(filter(None, (clean(batch.requested_by), clean(batch.reason)))),
        since=(batch.ended or batch.started or batch.created) / 1000,
        can_pause=batch.state == "running",
        can_resume=batch.state in ("paused", "planned"),
        can_cancel=not over and batch.state != "cancelling",
    )
