"""Rules of the settings find exactly the guests that their patterns fit, whatever these are called."""

from __future__ import annotations

import fnmatch
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.contract.plans import HostSpec
from worker.errors import SettingsError
from worker.fleet.rules import Applied, Guest, Names, apply
from worker.settings import RuleSettings

HOSTS = ("alpha", "beta")
letters = st.text(alphabet="ab-.1[]", min_size=1, max_size=5)
patterns = st.lists(st.text(alphabet="ab-.1[]*?", min_size=1, max_size=5), min_size=1, max_size=4)


def guests(*names: str) -> list[Guest]:
    """Guests called so, with ids that are not their names."""
    return [Guest(f"uuid-{number}", name) for number, name in enumerate(names)]


def applied(names: tuple[str, ...], **rules: RuleSettings) -> Applied:
    """What these rules mean for guests with these names."""
    return apply(rules, guests(*names), HOSTS)


def fits(pattern: str, name: str) -> bool:
    """The plain meaning of a pattern, by another way than the code's."""
    escaped = re.sub(r"[\[\]]", lambda bracket: f"[{bracket[0]}]", pattern)
    return fnmatch.fnmatchcase(name, escaped)


@given(st.lists(letters, max_size=12), patterns)
def test_patterns_fit_what_they_say(names: list[str], wanted: list[str]) -> None:
    """A guest is found where any pattern fits its whole name: each once, in the order of ids."""
    known = guests(*names)
    expected = sorted(guest.id for guest in known if any(fits(pattern, guest.name) for pattern in wanted))
    assert Names(known).fitting(wanted) == expected


@given(st.lists(letters, max_size=12), patterns, st.sampled_from(["apart", "together", "among"]))
def test_rules_name_their_guests_by_id(names: list[str], wanted: list[str], kind: str) -> None:
    """A rule that can be broken reaches the planner with its guests' ids; one that cannot is left out."""
    parts = [["alpha"], ["beta"]] if kind == "among" else []
    rule = RuleSettings.model_validate({"domains": wanted, "kind": kind, "parts": parts, "label": "rack"})
    ids = Names(guests(*names)).fitting(wanted)
    made = applied(tuple(names), r=rule).rules
    least = 1 if kind == "among" else 2
    assert [each.guests for each in made] == ([tuple(ids)] if len(ids) >= least else [])
    assert all((each.name, each.kind) == ("r", kind) for each in made)


def test_two_guests_of_one_name_are_two() -> None:
    """Names are not unique over hosts: a rule holds for each guest that is called so."""
    found = applied(("web", "web"), r=RuleSettings(domains=["web"], kind="apart")).rules
    assert found[0].guests == ("uuid-0", "uuid-1")


def test_labels_of_several_rules_add_up() -> None:
    """A guest's host must have what every rule asks for."""
    ssd = RuleSettings(domains=["db-*"], kind="requires", labels={"disk": "ssd"})
    zone = RuleSettings(domains=["db-1"], kind="requires", labels={"zone": "a", "disk": "ssd"})
    assert applied(("db-1", "db-2"), ssd=ssd, zone=zone).requires == {
        "uuid-0": {"disk": "ssd", "zone": "a"},
        "uuid-1": {"disk": "ssd"},
    }


def test_labels_that_contradict_each_other_are_told() -> None:
    """No host has two values of one label: the settings are wrong, and the message names label and rule."""
    a = RuleSettings(domains=["db"], kind="requires", labels={"zone": "a"})
    b = RuleSettings(domains=["d*"], kind="requires", labels={"zone": "b"})
    with pytest.raises(SettingsError, match=r"rules\.b wants zone=b .* zone=a"):
        applied(("db",), a=a, b=b)
    assert not applied(("web",), a=a, b=b).requires


def test_a_rule_with_an_unknown_host_is_told() -> None:
    """A host that is not in the inventory is a mistake in the rule, not a set that nobody fits."""
    rule = RuleSettings(domains=["*"], kind="among", parts=[["alpha", "delta"]])
    with pytest.raises(SettingsError, match=r"rules\.r names the host delta"):
        applied(("web",), r=rule)


def test_a_pinned_guest_says_why() -> None:
    """The rule's reason, or its name."""
    told = RuleSettings(domains=["a"], kind="pinned", reason="licence")
    mute = RuleSettings(domains=["b"], kind="pinned")
    assert applied(("a", "b"), told=told, mute=mute).pinned == {"uuid-0": "licence", "uuid-1": "rule mute"}


def test_guests_are_kept_within_hosts_that_share_a_label() -> None:
    """``among`` with a label needs no list of hosts: those with the same value are one part, others are of none."""
    rule = applied(("web",), r=RuleSettings(domains=["web"], kind="among", label="zone")).rules[0]
    zones = {"a": {"zone": "1"}, "b": {"zone": "2"}, "c": {"zone": "1"}, "d": {}}
    specs = [HostSpec(name=name, memory_mib=1, labels=labels) for name, labels in zones.items()]
    assert rule.sets(specs) == (("a", "c"), ("b",))
    assert rule.model_copy(update={"parts": (("d",),)}).sets(specs) == (("d",),)
    with pytest.raises(ValueError, match="parts or a label"):
        RuleSettings(domains=["web"], kind="among")
