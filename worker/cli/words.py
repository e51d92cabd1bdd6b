"""Numbers and events in words. Pure: no terminal, no journal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

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
Event = dict[str, Any]


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


def _where(data: Event) -> str:
    return f"{data['phase']} on {data['host']}"


def _phase_ended(data: Event) -> str:
    end = (
        f"failed after {data['seconds']:.3f} s: {data['message']}" if data.get("error") else f"{data['seconds']:.3f} s"
    )
    return f"{_where(data)} {end}"


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
    "phase": lambda data: f"{_where(data)} …",
    "phase-ended": _phase_ended,
    "retry": lambda data: f"{_where(data)}: {data['message']}; retry {data['number']} in {data['delay_seconds']:.1f} s",
    "backoff": lambda data: (
        f"attempt {data['attempt']} failed ({data['code']}); the next in {data['delay_seconds']:.1f} s"
    ),
    "progress": _progress,
    "stalled": _stalled,
    "tuned": tuned,
    "cancel": lambda data: f"cancel asked for{' by ' + data['by'] if data.get('by') else ''}",
    "in-doubt": lambda data: f"in doubt: {data['why']}",
    "republished": lambda data: f"{data['phase']} sent again",
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
            return datetime.fromtimestamp(value, UTC).astimezone().isoformat(" ", "seconds")
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
    """A result document as label and value, without its phases and what is empty."""
    return [
        (LABELS.get(name, name.replace("_", " ")), _value(name, value))
        for name, value in document.items()
        if value not in (None, [], "", {}) and name != "phases"
    ]
