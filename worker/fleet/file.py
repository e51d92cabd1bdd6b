"""A problem from a file: the whole document, or only hosts and guests as somebody writes them by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from worker.contract.plans import Goal, Problem
from worker.errors import Rejected

MOST_BYTES = 256 * 2**20
MOST_ERRORS = 5
BALANCE = Goal(kind="balance")


def problem_from_file(path: Path, goal: Goal = BALANCE) -> Problem:
    """The problem that a JSON file describes, with ``goal`` where the file has none.

    A file has the fields of ``Problem``; ``version`` and ``goal`` may be left out. In the shorter form ``hosts`` and
    ``guests`` are objects by name: a guest's name is then its id, and ``memory_gib`` may stand for ``memory_mib``.
    Raises ``Rejected`` (``bad-file``) that names the line or the fields.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise _bad(path, f"it has more than {MOST_BYTES // 2**20} MiB")
        text = path.read_text(encoding="utf-8")
    except OSError as lost:
        raise _bad(path, lost.strerror or str(lost)) from None
    except UnicodeDecodeError:
        raise _bad(path, "it is not UTF-8 text") from None
    try:
        told = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as wrong:
        where = f"line {wrong.lineno}, column {wrong.colno}: " if isinstance(wrong, json.JSONDecodeError) else ""
        raise _bad(path, f"{where}no JSON ({getattr(wrong, 'msg', 'nested too deeply')})") from None
    if not isinstance(told, dict):
        raise _bad(path, 'it holds no JSON object; write {"hosts": …, "guests": …}')
    return _problem(path, told, goal)


def _problem(path: Path, told: dict[str, Any], goal: Goal) -> Problem:
    written = dict(told)
    keys = {part: list(told[part]) for part in ("hosts", "guests") if isinstance(told.get(part), dict)}
    for part in keys:
        written[part] = [_named(part, name, value) for name, value in told[part].items()]
    for part in ("hosts", "guests"):
        if isinstance(written.get(part), list):
            written[part] = [_in_mib(entry) for entry in written[part]]
    written.setdefault("goal", goal.model_dump())
    try:
        return Problem.model_validate(written)
    except ValidationError as wrong:
        errors = wrong.errors()
        lines = [f"{_place(error['loc'], keys)}: {error['msg']}" for error in errors[:MOST_ERRORS]]
        more = f" (and {len(errors) - MOST_ERRORS} more)" if len(errors) > MOST_ERRORS else ""
        raise _bad(path, "; ".join(lines) + more) from None


def _named(part: str, name: str, value: Any) -> Any:  # noqa: ANN401 - any JSON
    if not isinstance(value, dict):
        return value
    return {"name": name} | ({"id": name} if part == "guests" else {}) | value


def _in_mib(entry: Any) -> Any:  # noqa: ANN401 - any JSON
    """An entry with ``memory_gib`` instead of ``memory_mib``, in MiB."""
    if not isinstance(entry, dict) or not isinstance(gib := entry.get("memory_gib"), int | float):
        return entry
    return {name: value for name, value in entry.items() if name != "memory_gib"} | {"memory_mib": round(gib * 1024)}


def _place(loc: tuple[int | str, ...], keys: dict[str, list[str]]) -> str:
    """``guests.web-1.host``: by the name that the file has, or by number."""
    part, *rest = loc or ("the file",)
    if rest and part in keys and isinstance(rest[0], int):
        rest[0] = keys[str(part)][rest[0]]
    return ".".join(map(str, (part, *rest)))


def _bad(path: Path, why: str) -> Rejected:
    return Rejected(f"{path} describes no problem to plan: {why}", code="bad-file")
