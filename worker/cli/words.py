"""Numbers and events in words. Pure: no terminal, no journal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from worker.contract import RECOVER
from worker.hypervisors.base import Phase

ACTIONS = {
    "report": "it goes on",
    "abort": "it is given up",
    "suspend": "the guest is paused until it has moved",
    "postcopy": "it switches to post-copy",
    "downtime": "a longer downtime is allowed",
}
"""What is done about a stall (``StallAction``), where the driver says no more."""
TIMES_UP = {
    "suspend": "the guest is suspended until it has moved",
    "postcopy": "the guest runs on at its destination and fetches the rest from there",
}
"""What is done when the time of ``--timeout`` is up (``Convergence.on_timeout``)."""
UNITS = {"set-downtime": "ms", "set-speed": "MiB/s", "set-postcopy-speed": "MiB/s"}
"""What a tuning's value is counted in (``TuningKind``)."""
SHOWS = {
    "absent": "has nothing of it",
    "running": "runs it",
    "paused": "has it paused",
    "paused-out": "has it stopped, ready to go on elsewhere",
    "paused-in": "has what arrived, waiting",
    "shutoff": "has a stopped one",
    "crashed": "has a crashed one",
    "migrating": "is still moving it",
    "unknown": "cannot tell",
    "other-name": "runs it under another name",
    "unreachable": "cannot be seen",
    "not seen": "was not looked at",
}
"""What a side shows of a domain (``tasks.recovery.Shown``)."""
DOES = {
    "look": "the {side} is looked at next",
    "look-again": "both are looked at again in a moment",
    "wait": "waits for the {side}",
    "adopt": "the move goes on and is watched",
    "abort": "the move is stopped",
    "finish": "goes on with finish",
    "finish-cancelled": "what arrived is dropped",
    "confirm-cancelled": "the source keeps it",
    "resume-source": "it is let run on its source",
    "remove-source": "the source's copy is ended",
    "remove-destination": "the remains on the destination go",
    "moved": "it has moved",
    "died": "it has stopped",
    "ask-operator": "an operator is asked",
}
"""What is done about an interrupted attempt (``tasks.recovery.Do``)."""
Event = dict[str, Any]


def clean(text: str) -> str:
    """Text of others without what moves a terminal's cursor or breaks a line: control characters become ``?``."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def many(number: int, one: str) -> str:
    """A number of things: ``1 move``, ``2 moves``."""
    return f"{number} {one}" if number == 1 else f"{number} {one}s"


def size(count: float) -> str:
    """Bytes with a unit: ``1.5 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"


def duration(seconds: float) -> str:
    """Seconds as one would say them: ``0.032 s``, ``12.3 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 10:
        return f"{seconds:.3f} s"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def details(progress: Event) -> str:
    """What is known of a perform besides its percentage; what the hypervisor does not tell is left out."""
    told = {name: value for name, value in progress.items() if value}
    parts = (
        "post-copy" if "postcopy" in told else "",
        f"{size(told['transferred_bytes'])} sent" if "transferred_bytes" in told else "",
        f"{size(told['remaining_bytes'])} left" if "remaining_bytes" in told else "",
        f"{size(told['bandwidth_bytes_per_second'])}/s" if "bandwidth_bytes_per_second" in told else "",
        f"dirties {size(told['dirty_bytes_per_second'])}/s" if "dirty_bytes_per_second" in told else "",
        f"round {told['iteration']}" if "iteration" in told else "",
        f"downtime {duration(told['expected_downtime_seconds'])}" if "expected_downtime_seconds" in told else "",
        f"CPUs slowed by {told['throttle_percent']} %" if "throttle_percent" in told else "",
    )
    return ", ".join(part for part in parts if part)


def tuned(data: Event) -> str:
    """What became of a wish for a running perform."""
    kind, error = data["kind"], data.get("error")
    unit = UNITS.get(kind)
    wish = f"{kind} {data['value']} {unit}" if unit and data.get("value") is not None else kind
    return f"{wish}: " + (f"refused: {error['message']} [{error['code']}]" if error else "done")


def uncounted(progress: Event) -> bool:
    """Whether nobody counts what is left: the destination waits for memory in post-copy."""
    return bool(progress.get("postcopy")) and not progress.get("total_bytes")


def _progress(data: Event) -> str:
    if uncounted(data) and data.get("description"):
        return str(data["description"])
    return ", ".join(part for part in (f"{data['percent']} %", details(data)) if part)


def is_moving(state: str, phase: str) -> bool:
    """Whether a guest may be on its way: performed, or watched after its agent was lost."""
    return state == "active" and phase in (Phase.PERFORM, RECOVER)


def doing(data: Event) -> str:
    """What goes on where: a phase, or a look after an interruption."""
    return f"a look at {data['host']}" if data["phase"] == RECOVER else f"{data['phase']} on {data['host']}"


def _phase_ended(data: Event) -> str:
    if data["phase"] == RECOVER:
        return _seen(data)
    end = (
        f"failed after {data['seconds']:.3f} s: {data['message']}" if data.get("error") else f"{data['seconds']:.3f} s"
    )
    return f"{doing(data)} {end}"


def _seen(data: Event) -> str:
    """One look at one side, and what was decided."""
    sides = "; ".join(f"the {side} {_side(data, side)}" for side in ("source", "destination"))
    decided = [_decided(each) for each in data.get("decided", ())]
    return f"{sides}: {', then '.join(decided)}" if decided else f"{sides}: the interrupted phase has ended after all"


def _side(data: Event, side: str) -> str:
    return "is assumed dead" if side in data.get("assumed", ()) else str(SHOWS.get(data[side], data[side]))


def _decided(action: Event) -> str:
    does = str(DOES.get(action["action"], action["action"])).format(side=action["side"] or "other side")
    return does if action["action"] == "look" else f"{does} ({action['why']})"


def _recovering(data: Event) -> str:
    """Why both hosts are looked at."""
    dead = data.get("dead")
    looks = f"{' and '.join(dead)} is assumed dead, the other host is looked at" if dead else "both hosts are looked at"
    if not data["step"]:
        found = "it was in doubt"
    elif data["phase"] == RECOVER:
        found = "its recovery begins anew"
    else:
        found = f"{doing(data)} was {'interrupted' if data['step'] == 'running' else 'not begun'}"
    return f"{found}: {data['why']}; {looks}"


def waits(waiting: Event) -> str:
    """For which host a migration waits, why and since when."""
    return f"{waiting['host']} since {_time(waiting['since'] / 1000)}: {waiting['why']}"


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).astimezone().isoformat(" ", "seconds")


def _stalled(data: Event) -> str:
    action = data["action"]
    if data.get("kind") == "timeout":
        when, detail = data["reason"].removeprefix("still copying "), data.get("detail") or ""
        done = f"{action}: {detail}" if "refused" in detail else TIMES_UP.get(action, detail or action)
        return f"time is up {when}: {done}"
    return f"stalled: {data['reason']}; {action}: {data.get('detail') or ACTIONS.get(action, 'asked for')}"


EVENTS: Mapping[str, Callable[[Event], str]] = {
    "accepted": lambda data: f"accepted: {data['domain']} from {data['source']} to {data['destination']}",
    "started": lambda data: f"attempt {data['attempt']}",
    "phase": lambda data: f"{doing(data)} …",
    "phase-ended": _phase_ended,
    "retry": lambda data: f"{doing(data)}: {data['message']}; retry {data['number']} in {data['delay_seconds']:.1f} s",
    "backoff": lambda data: (
        f"attempt {data['attempt']} failed ({data['code']}); the next in {data['delay_seconds']:.1f} s"
    ),
    "progress": _progress,
    "stalled": _stalled,
    "tuned": tuned,
    "cancel": lambda data: f"cancel asked for{' by ' + data['by'] if data.get('by') else ''}",
    "recovering": _recovering,
    "restored": lambda data: f"Redis had forgotten it, and has it again ({doing(data)}); both hosts are looked at",
    "waiting": lambda data: f"waits for {data['host']}: {data['why']}",
    "hastened": lambda data: f"the next attempt may start now{' (' + data['by'] + ')' if data.get('by') else ''}",
    "conflict": lambda data: f"another request came under its id{' (' + data['by'] + ')' if data.get('by') else ''}",
    "in-doubt": lambda data: f"in doubt: {data['why']}",
    "republished": lambda data: "the next look is due" if data["phase"] == RECOVER else f"{data['phase']} sent again",
    "ended": lambda data: f"{data['outcome']}{': ' + data['error'] if data.get('error') else ''}",
}
"""The kinds of events (``docs/reference/contract.md``), each in words."""


def line_of(kind: str, data: Event) -> str | None:
    """An event in words; ``None`` for a kind that this version does not know."""
    words = EVENTS.get(kind)
    return words(data) if words else None


def _value(name: str, value: Any) -> str:  # noqa: ANN401 - any JSON
    """A field of the result document."""
    match name:
        case "seconds" | "downtime_seconds" | "total_seconds" | "deadline_seconds":
            return duration(value)
        case "transferred_bytes":
            return size(value)
        case "created" | "ended":
            return _time(value)
        case "error":
            return f"{value['message']} [{value['code']}]"
        case "progress":
            return _progress(value)
        case "stalled":
            return _stalled(value).removeprefix("stalled: ")
        case "params" | "convergence":
            return ", ".join(f"{key}={_value('', item)}" for key, item in value.items())
        case _:
            return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


LABELS = {
    "seconds": "time in all",
    "downtime_seconds": "downtime",
    "total_seconds": "time of the job",
    "transferred_bytes": "sent",
    "iterations": "rounds of copying",
    "deadline_seconds": "deadline",
    "convergence": "so that it ends",
}
"""Fields of the result document that are shown under another name."""


def rows(document: Event) -> list[tuple[str, str]]:
    """A result document as label and value, without its phases, what it waits for, and what is empty."""
    return [
        (LABELS.get(name, name.replace("_", " ")), _value(name, value))
        for name, value in document.items()
        if value not in (None, [], "", {}) and name not in ("phases", "waiting")
    ]
