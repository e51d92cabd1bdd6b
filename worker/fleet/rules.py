"""``[rules.NAME]`` of the settings, applied to the guests that there are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from worker.contract.plans import Rule
from worker.errors import SettingsError
from worker.settings import RuleSettings


@dataclass(frozen=True, slots=True)
class Guest:
    """What rules look at."""

    id: str
    name: str


@dataclass(slots=True)
class Applied:
    """What the rules mean for these guests."""

    rules: list[Rule] = field(default_factory=list)
    pinned: dict[str, str] = field(default_factory=dict)
    """By id: why a rule keeps the guest where it is."""
    requires: dict[str, dict[str, str]] = field(default_factory=dict)
    """By id: the labels that the guest's host must have."""


def apply(settings: Mapping[str, RuleSettings], guests: Iterable[Guest], hosts: Iterable[str]) -> Applied:
    """Find the guests of each rule.

    Raises ``SettingsError`` where a rule names an unknown host, or two rules want different labels of one guest's host.
    """
    known, names = set(hosts), Names(guests)
    applied = Applied()
    for name, rule in sorted(settings.items()):
        ids = names.fitting(rule.domains)
        if rule.kind == "pinned":
            applied.pinned |= dict.fromkeys(ids, (rule.reason or f"rule {name}")[:500])
        elif rule.kind == "requires":
            _require(applied.requires, name, rule.labels, ids)
        elif rule.kind == "among":
            if unknown := sorted({host for part in rule.parts for host in part} - known):
                raise SettingsError(f"rules.{name} names the host {unknown[0]}, which is not in the inventory")
            if ids:
                parts = tuple(tuple(part) for part in rule.parts)
                applied.rules.append(Rule(name=name, kind="among", guests=tuple(ids), label=rule.label, parts=parts))
        elif len(ids) > 1:
            applied.rules.append(Rule(name=name, kind=rule.kind, guests=tuple(ids), label=rule.label))
    return applied


def _require(requires: dict[str, dict[str, str]], name: str, labels: Mapping[str, str], ids: Iterable[str]) -> None:
    for ident in ids:
        wanted = requires.setdefault(ident, {})
        for label, value in labels.items():
            if wanted.setdefault(label, value) != value:
                raise SettingsError(
                    f"rules.{name} wants {label}={value} of the hosts of a guest for which another rule wants "
                    f"{label}={wanted[label]}: no host has both; narrow the domains of one"
                )


class Names:
    """Guests by name, and by what fits a pattern."""

    def __init__(self, guests: Iterable[Guest]) -> None:
        self._named: dict[str, list[str]] = {}
        for guest in guests:
            self._named.setdefault(guest.name, []).append(guest.id)

    def fitting(self, patterns: Iterable[str]) -> list[str]:
        """The ids of the guests whose names fit any of these, in order and each once."""
        exact: set[str] = set()
        globs: list[str] = []
        for pattern in patterns:
            if "*" in pattern or "?" in pattern:
                globs.append(_expression(pattern))
            else:
                exact.add(pattern)
        names = exact & self._named.keys()
        if globs:
            fits = re.compile("|".join(globs), re.DOTALL).fullmatch
            names |= {name for name in self._named if fits(name)}
        return sorted(ident for name in names for ident in self._named[name])


def _expression(pattern: str) -> str:
    """``*`` and ``?`` only: a bracket in a name is a bracket."""
    return "".join({"*": ".*", "?": "."}.get(character) or re.escape(character) for character in pattern)
