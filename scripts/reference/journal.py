"""The journal's keys and scripts, from the comments above them."""

from __future__ import annotations

from pathlib import Path

from page import ROOT, described, page, table

from worker.journal.record import Record

FOLDER = ROOT / "worker" / "journal" / "scripts"


def journal() -> str:
    """``docs/reference/journal.md``."""
    scripts = [_script(file) for file in sorted(FOLDER.glob("*.lua"))]
    rows = [[f"`{name}`", text] for name, text in _fields().items()]
    return page(
        "Journal",
        "worker/journal/",
        "The durable record of every migration in Redis, and the only truth about it. Every change is one Lua script, "
        "so it happens as a whole or not at all. This is for reading and for emergencies; programs use "
        "[the task contract](contract.md).",
        "## Keys\n\n```text\n" + _keys() + "\n```",
        "## Fields of a record\n\nOf the hash `m:<id>`.\n\n" + table(["field", "meaning"], rows),
        "## Scripts\n\nA verdict other than the first changes nothing.",
        *scripts,
    )


FIELDS = {
    "domain": "its name on the source",
    "uuid": "of the domain",
    "source": "host",
    "destination": "host",
    "destination_name": "the domain's name there",
    "driver": "the flag profile",
    "flags": "the mask in force",
    "flags_label": "the same in words, as metrics show it",
    "params": "typed migration parameters, JSON",
    "deadline_seconds": "of perform",
    "attempts_allowed": "how many attempts there may be",
    "convergence": "on_stall, timeout_seconds, on_timeout, postcopy_after_precopy, JSON; nothing for the defaults",
    "requested_by": "as the request said",
    "request_reason": "as the request said",
    "priority": "`low`, `high` or `urgent`; nothing for `normal`",
    "batch": "the batch that asked for it",
    "item": "which of that batch's moves it is, from 1",
    "cost": "how many slots of each host it takes; nothing for 1",
    "attempt": "the number of the attempt, from 1; 0 before the first",
    "epoch": "goes up with each attempt and each recovery: messages of an older one are stale",
    "phase": "the phase queued or running",
    "step": "`queued` or `running`",
    "owner": "the host whose agent runs the phase",
    "retries": "calls repeated inside phases",
    "cancel": "`1` once somebody asked for it to stop",
    "progress": "what the hypervisor last told of perform, JSON",
    "outcome": "`succeeded`, `failed`, `cancelled` or `rejected`, once it ended",
    "error": "the text of that error",
    "downtime_seconds": "as the hypervisor measured it",
    "transferred_bytes": "as the hypervisor counted them",
    "total_seconds": "the whole job, as the hypervisor measured it",
    "iterations": "rounds of copying memory",
    "phases": "in `phase:<attempt>:<phase>`: what each phase that ended told, JSON",
    "created": "when the request was journaled",
    "started": "when the first attempt got its slots",
    "ended": "when it ended",
}
"""What the class does not say itself."""
INTERNAL = {
    "baton": "what the queued or running phase gets, with cookie and definition sealed",
    "token": "who runs the phase: only they may end it",
    "done": "the token that ended the last phase, so that a repeated answer changes nothing",
    "queued": "since when the phase is queued",
    "claimed": "since when it runs",
    "flow": "whose turn it takes: the priority, and the batch (`b:`) or requester (`r:`)",
    "held": "how many slots it takes, or took last: its cost, as far as the limits allowed; nothing for 1",
    "networks": "the migration networks that it uses, or used last",
    "submitter": "who may admit the first attempt ahead of the rounds",
}


def _fields() -> dict[str, str]:
    found = {name: text or FIELDS.get(name, "") for name, text in described(Record).items() if name != "id"}
    if missing := [name for name, text in found.items() if not text]:
        raise SystemExit(f"scripts/reference/journal.py does not describe {missing}")
    return found | INTERNAL


def _comment(file: Path) -> list[str]:
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("--"):
            break
        lines.append(line.removeprefix("--").removeprefix(" "))
    return lines


def _keys() -> str:
    lines = _comment(FOLDER / "shared" / "common.lua")
    return "\n".join(lines).strip()


def _script(file: Path) -> str:
    lines = _comment(file)
    start = next((number for number, line in enumerate(lines) if line.startswith("ARGV")), len(lines))
    text = f"### {file.stem}\n\n{' '.join(lines[:start])}"
    return text + ("\n\n```text\n" + "\n".join(lines[start:]) + "\n```" if lines[start:] else "")
