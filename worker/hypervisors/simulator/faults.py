"""Faults that are armed on one host: what is to go wrong, when, and how often."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from worker.hypervisors.simulator.config import Fault, Side


@dataclass
class _Armed:
    fault: Fault
    left: int
    passing: int
    """So many matches pass before the next one is hit."""


class Faults:
    """The armed faults; each match uses one up."""

    def __init__(self) -> None:
        self._armed: list[_Armed] = []

    def __bool__(self) -> bool:
        return bool(self._armed)

    def arm(self, fault: Fault) -> None:
        """Add one."""
        self._armed.append(_Armed(fault, fault.count, fault.after))

    def clear(self) -> None:
        """Drop all."""
        self._armed.clear()

    def show(self) -> list[dict[str, Any]]:
        """For the control command: codes in hexadecimal, what is left as ``count``."""
        return [
            armed.fault.model_dump(exclude={"count", "after", "code", "nested"})
            | {
                "count": armed.left,
                "after": armed.passing,
                "code": f"0x{armed.fault.code:08x}",
                "nested": [f"0x{code:08x}" for code in armed.fault.nested],
            }
            for armed in self._armed
        ]

    def at_step(self, side: Side, step: int, vm: str) -> list[Fault]:
        """What goes wrong as a migration enters a step."""
        if not self._armed:
            return []
        return self._take(
            lambda fault: fault.op == "migrate" and fault.side == side and fault.step == step, vm, all_of_them=True
        )

    def at_request(self, op: str, vm: str) -> Fault | None:
        """What goes wrong with any other request: the first that matches."""
        if not self._armed or op == "migrate":
            return None
        return next(iter(self._take(lambda fault: fault.op == op, vm, all_of_them=False)), None)

    def _take(self, matches: Callable[[Fault], bool], vm: str, *, all_of_them: bool) -> list[Fault]:
        taken: list[Fault] = []
        for armed in self._armed:
            if (armed.fault.vm in ("", vm)) and matches(armed.fault):
                if armed.passing:
                    armed.passing -= 1
                    continue
                # Several failures armed for the same step follow one another, one for each migration.
                if armed.fault.kind == "fail" and any(fault.kind == "fail" for fault in taken):
                    continue
                armed.left -= 1
                taken.append(armed.fault)
                if not all_of_them:
                    break
        self._armed = [armed for armed in self._armed if armed.left > 0]
        return taken
