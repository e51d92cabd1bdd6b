"""Flags by name and bit, and tri-state options resolved by flag profile."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from hypothesis import event, given
from hypothesis import strategies as st

from worker.cli.flags import flags as flags_command
from worker.errors import Rejected
from worker.hypervisors.flags import (
    PROFILES,
    MigrateFlag,
    flag_label,
    flag_names,
    parse_flags,
    resolve,
)

OPTIONS = [name.lower() for name in MigrateFlag.__members__]
wishes = st.dictionaries(st.sampled_from(OPTIONS), st.none() | st.booleans())


def test_flags_have_libvirts_numbers() -> None:
    """All 21 flags, one bit each, in libvirt's order."""
    assert [int(flag) for flag in MigrateFlag] == [1 << bit for bit in range(21)]
    assert (int(MigrateFlag.PAUSED), int(MigrateFlag.COMPRESSED)) == (0x20, 0x800)
    assert (MigrateFlag.LIVE.name, MigrateFlag.ZEROCOPY.macro) == ("LIVE", "VIR_MIGRATE_ZEROCOPY")


@pytest.mark.parametrize(
    ("text", "mask"),
    [
        ("LIVE,COMPRESSED", 0x801),
        ("vir_migrate_live, persist_dest", 0x9),
        ("VIR_MIGRATE_AUTO_CONVERGE", 0x2000),
        ("auto-converge", 0x2000),
        ("0x809", 0x809),
        ("2057", 0x809),
        ("LIVE,0x40000000", 0x40000001),
        ("", 0),
    ],
)
def test_flags_are_read_from_names_and_numbers(text: str, mask: int) -> None:
    """Names in any case with or without prefix, and numbers, add up."""
    assert parse_flags(text) == mask


@pytest.mark.parametrize("text", ["NOPE", "LIVE,NOPE", "0xzz", "-1", "0x100000000", "1_0 0"])
def test_what_is_no_flag_is_refused(text: str) -> None:
    """An unknown name or an impossible number is refused with its own code."""
    with pytest.raises(Rejected) as refusal:
        parse_flags(text)
    assert refusal.value.code == "unknown-flag"


def test_an_unknown_name_is_answered_with_what_exists() -> None:
    """The message lists the flags, so that nobody has to look them up."""
    with pytest.raises(Rejected, match=r"'NOPE'; there are: LIVE, .*ZEROCOPY"):
        parse_flags("NOPE")


@given(st.integers(0, 2**32 - 1))
def test_labels_and_names_round_trip(mask: int) -> None:
    """A mask is read back from its metric label and from its names, unknown bits included."""
    assert parse_flags(flag_label(mask)) == mask
    assert parse_flags(",".join(flag_names(mask))) == mask


def test_labels_are_sorted_lower_case_names() -> None:
    """The label of the vz defaults is the one of the contract."""
    assert flag_label(0x809) == "compressed,live,persist_dest"
    assert flag_names(0x809) == ["VIR_MIGRATE_LIVE", "VIR_MIGRATE_PERSIST_DEST", "VIR_MIGRATE_COMPRESSED"]


@given(st.text())
def test_reading_flags_is_total(text: str) -> None:
    """Any text gives a mask or a refusal."""
    try:
        mask = parse_flags(text)
    except Rejected:
        return
    assert 0 <= mask < 2**32


@pytest.mark.parametrize(
    ("name", "defaults", "accepted"),
    [("vz", 0x809, 0x829), ("vz-libvirt", 0x19, 0xBB), ("qemu", 0x19, 0x1FFFFF)],
)
def test_profiles_hold_the_drivers_masks(name: str, defaults: int, accepted: int) -> None:
    """Defaults and the masks of vzCheckFlags, VZ_MIGRATION_FLAGS and QEMU_MIGRATION_FLAGS."""
    profile = PROFILES[name]
    assert (profile.defaults, profile.accepted) == (defaults, accepted)
    assert resolve(name, {}) == defaults
    assert list(profile.rules) == list(MigrateFlag.__members__)
    assert all(rule.reason for rule in profile.rules.values())


def test_what_is_always_done_cannot_be_switched_off() -> None:
    """``--no-compressed`` on vz is refused with the reason, not ignored."""
    with pytest.raises(Rejected, match=r"COMPRESSED on driver vz: .*vz always compresses memory") as refusal:
        resolve("vz", {"compressed": False})
    assert refusal.value.code == "flag-refused"


@pytest.mark.parametrize(
    ("driver", "option", "reason"),
    [
        ("vz", "unsafe", "UNSAFE on driver vz: refused: vz disks always have cache=none"),
        ("vz", "offline", "OFFLINE on driver vz: refused: not implemented"),
        ("vz", "non_shared_disk", "refused: undecided"),
        ("vz", "undefine_source", "a vz domain always leaves the source"),
        ("vz", "direct", "the driver would need its own authentication"),
        ("vz-libvirt", "compressed", "COMPRESSED on driver vz-libvirt: refused"),
        ("qemu", "direct", "direct migration is not supported"),
    ],
)
def test_what_a_driver_cannot_do_is_refused_with_the_reason(driver: str, option: str, reason: str) -> None:
    """A refusal names the flag, the driver and the reason."""
    with pytest.raises(Rejected, match=reason.replace("(", r"\(")):
        resolve(driver, {option: True})


def test_options_change_the_defaults() -> None:
    """Yes adds, no removes, nothing keeps."""
    assert resolve("vz", {"paused": True, "live": None, "unsafe": False}) == 0x829
    assert resolve("qemu", {"undefine_source": False, "offline": True, "live": False}) == 0x408


def test_offline_is_not_live_unless_that_is_asked_for() -> None:
    """``--offline`` works by itself: the default LIVE goes, in whatever order the options come."""
    assert resolve("qemu", {"offline": True}) == 0x418
    assert resolve("qemu", {"offline": True, "live": None}) == 0x418
    assert resolve("qemu", {"live": True, "offline": True}) == resolve("qemu", {"offline": True, "live": True}) == 0x419
    assert resolve("qemu", {"offline": False}) == 0x19


@given(st.sampled_from(list(PROFILES)), wishes)
def test_resolving_is_total_and_never_leaves_the_drivers_mask(driver: str, options: dict[str, bool | None]) -> None:
    """Any wishes give a mask that the driver takes, or a refusal; every wish is honoured."""
    profile = PROFILES[driver]
    try:
        mask = resolve(driver, options)
    except Rejected as refusal:
        asked = [profile.rules[option.upper()] for option, wish in options.items() if wish]
        forbidden = [profile.rules[option.upper()] for option, wish in options.items() if wish is False]
        blamed = [rule for rule in asked if not rule.accepted] + [rule for rule in forbidden if rule.always]
        reasons = [rule.reason for rule in blamed]
        # the refusal is deserved, and says why
        event(refusal.code)
        if not any(reason in refusal.message for reason in reasons):
            raise
        return
    assert mask & ~profile.accepted == 0
    assert mask & profile.required == profile.required
    for option, wish in options.items():
        bit = MigrateFlag[option.upper()]
        if wish is None:
            dropped = bit is MigrateFlag.LIVE and options.get("offline")
            assert mask & bit == (0 if dropped else profile.defaults & bit)
        else:
            assert bool(mask & bit) is wish


def test_unknown_drivers_and_options_are_refused() -> None:
    """Both have their own codes."""
    with pytest.raises(Rejected) as refusal:
        resolve("xen", {})
    assert refusal.value.code == "unknown-driver"
    with pytest.raises(Rejected) as refusal:
        resolve("vz", {"nope": True})
    assert refusal.value.code == "unknown-flag"


def test_the_table_shows_every_flag_of_a_driver() -> None:
    """``vmrelay flags --driver vz`` prints each flag with status and reason."""
    result = CliRunner(env={"COLUMNS": "200"}).invoke(flags_command, ["--driver", "vz"])
    assert result.exit_code == 0
    assert all(name in result.output for name in MigrateFlag.__members__)
    assert "vz disks always have cache=none" in result.output


def test_the_table_as_json_is_one_document() -> None:
    """``-o json`` holds all three profiles."""
    result = CliRunner().invoke(flags_command, ["-o", "json"])
    rows = json.loads(result.output)
    assert {row["driver"] for row in rows} == set(PROFILES)
    unsafe = next(row for row in rows if row["driver"] == "vz" and row["name"] == "UNSAFE")
    assert (unsafe["value"], unsafe["status"], unsafe["bit"]) == ("0x200", "refused", 9)
