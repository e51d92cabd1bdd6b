"""What ``vmrelay batch run`` reads: a plan, or a list of moves as JSON, CSV or words. Pure."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Iterator
from typing import Any

from worker.contract.bulk import MOST_MOVES
from worker.errors import Rejected

COLUMNS = ("domain", "destination", "source")
"""The words of a line, in this order, the last may be left out; and the names of a CSV header."""


def read(text: str, origin: str) -> dict[str, Any]:
    """The part of a ``vmrelay.v1.batch`` request that a file holds: ``{"plan": …}`` or ``{"moves": […]}``.

    A JSON object is a plan, or has ``moves``; a JSON array is a list of moves; anything else has a move in each
    line, ``#`` begins a comment. Raises ``Rejected`` (``bad-file``) that names the line.
    """
    if text.lstrip("\ufeff \t\r\n")[:1] in ("{", "["):
        return _json(text.lstrip("\ufeff"), origin)
    moves = list(_lines(text.removeprefix("\ufeff"), origin))
    return {"moves": _some(moves, origin)}


def _json(text: str, origin: str) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except json.JSONDecodeError as wrong:
        raise _bad(origin, f"line {wrong.lineno}, column {wrong.colno}: no JSON ({wrong.msg})") from None
    except RecursionError:
        raise _bad(origin, "it is nested too deeply") from None
    if isinstance(told, list):
        return {"moves": _some(told, origin)}
    if "steps" in told and "goal" in told:
        return {"plan": told}
    if isinstance(told.get("moves"), list) and set(told) == {"moves"}:
        return {"moves": _some(told["moves"], origin)}
    raise _bad(origin, "it is neither a plan ('vmrelay rebalance --dry-run -o json') nor a list of moves")


def _some(moves: list[Any], origin: str) -> list[Any]:
    if not moves:
        raise _bad(origin, "it names no move")
    if len(moves) > MOST_MOVES:
        raise _bad(origin, f"it has {len(moves)} moves; a batch takes {MOST_MOVES} at most, make several")
    return moves


def _lines(text: str, origin: str) -> Iterator[dict[str, str]]:
    columns: tuple[str, ...] = COLUMNS
    first = True
    for number, line in enumerate(text.splitlines(), 1):
        words = _words(line, number, origin)
        if not words:
            continue
        if first and set(words) <= set(COLUMNS) and "domain" in words and "destination" in words:
            columns, first = tuple(words), False
            continue
        first = False
        if not 2 <= len(words) <= len(columns):
            raise _bad(origin, f"line {number} has {len(words)} words; write: {' '.join(columns)}")
        move = {name: word for name, word in zip(columns, words, strict=False) if word}
        if missing := [name for name in ("domain", "destination") if name not in move]:
            raise _bad(origin, f"line {number} names no {missing[0]}")
        yield move


def _words(line: str, number: int, origin: str) -> list[str]:
    """The words of a line, between commas where there are any."""
    if line.lstrip().startswith("#"):
        return []
    try:
        if "," in line:
            row = next(csv.reader([line], strict=True, skipinitialspace=True))
            return [word.strip() for word in row] if any(word.strip() for word in row) else []
        return shlex.split(line, comments=True)
    except (csv.Error, ValueError) as wrong:
        raise _bad(origin, f"line {number}: {wrong}") from None


def _bad(origin: str, why: str) -> Rejected:
    return Rejected(f"{origin} cannot be run as a batch: {why}", code="bad-file")
