"""The rules of the validator, beyond the cases that were taken from libvirt."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.errors import Rejected
from worker.hypervisors.base import DomainState, ParamValue
from worker.hypervisors.checks import Verdict, check_line, check_migration
from worker.hypervisors.checks.cookies import uuid_ok
from worker.hypervisors.checks.uris import parse_uri
from worker.hypervisors.flags import PROFILES, MigrateFlag, resolve
from worker.hypervisors.params import PARAMS

PHASES = ("begin3", "prepare3", "perform3", "finish3", "confirm3")
APIS = (*PHASES, "migrate3", "touri3", "migrate", "migrate2", "touri", "touri2", "abort", "virsh", "finish3 twice")
SENDER = (
    "<name>t1</name><uuid>11111111-2222-4333-8444-555555555555</uuid><hostname>src</hostname>"
    "<hostuuid>aaaaaaaa-0000-4000-8000-00000000000a</hostuuid>"
)


def ask(hypervisor: str, api: str, *flags: str, **rest: Any) -> Verdict:
    """The verdict on a call of a running domain."""
    return check_line(json.dumps({"hypervisor": hypervisor, "api": api, "flags": list(flags), **rest}))


def refused(code: str, message: str) -> Verdict:
    """A refusal with libvirt's symbol and text."""
    return Verdict(False, f"VIR_ERR_{code}", message)


masks = st.integers(0, 2**32 - 1)
scalars = st.text(max_size=8) | st.integers(-(2**65), 2**65) | st.booleans() | st.none()
params = st.dictionaries(st.sampled_from([*PARAMS, "speed"]), scalars | st.lists(scalars, max_size=2), max_size=4)
requests = st.fixed_dictionaries(
    {"hypervisor": st.sampled_from(["vz-seed", "vz", "qemu"]), "api": st.sampled_from(APIS)},
    optional={
        "flags_value": masks.map(hex),
        "params": params,
        "state": st.sampled_from(["running", "paused", "shutoff", "absent", "crashed"]),
        "cookie": st.none() | st.text() | st.just(f"<a>{SENDER}</a>\0"),
        "dconnuri": st.none() | st.text() | st.just("qemu+ssh://host/system"),
        "cancelled": st.integers(0, 1),
        "cfg": st.sampled_from(["", "disk", "snapshot", "hostdev-scsi", "tls-force"]),
        "dst_setup": st.sampled_from(["", "same-shutoff", "same-running", "other-uuid"]),
        "ro": st.sampled_from(["", "source", "dest"]),
        "argv": st.lists(st.sampled_from(["migrate", "--live", "t1", "<dst>", "--bandwidth", "5", "--", "x"])),
    },
)


@given(requests)
def test_checking_is_total(request: dict[str, Any]) -> None:
    """Any request gives a verdict; a refusal always has a text, and a code unless virsh speaks."""
    verdict = check_line(json.dumps(request))
    assert verdict.ok is (verdict.message is None)
    if not verdict.ok:
        assert verdict.error_code or request["api"] == "virsh"


@settings(max_examples=40)
@given(st.text() | st.recursive(scalars, lambda x: st.lists(x) | st.dictionaries(st.text(), x)).map(json.dumps))
def test_any_line_is_answered(line: str) -> None:
    """Whatever stands in a line, the answer is a verdict."""
    assert check_line(line).error_code == "bad-request"


@given(masks)
def test_the_patch_checks_three_flags_and_then_the_mask(mask: int) -> None:
    """For vz-seed the first missing flag is named, then only the offending bits are printed."""
    verdict = ask("vz-seed", "begin3", flags_value=hex(mask))
    missing = [flag for flag in ("LIVE", "COMPRESSED", "PERSIST_DEST") if not mask & MigrateFlag[flag]]
    if missing:
        text = f"flags VIR_MIGRATE_{missing[0]} must be set for vz migration"
        assert verdict == refused("INVALID_ARG", text)
    elif offending := mask & ~0x829:
        text = f"unsupported flags (0x{offending:x}) in function vzCheckFlags"
        assert verdict == refused("INVALID_ARG", text)
    else:
        assert verdict.ok


@pytest.mark.parametrize("api", PHASES)
@pytest.mark.parametrize(("hypervisor", "prefix", "accepted"), [("vz", "vz", 0xBB), ("qemu", "qemu", 0x1FFFFF)])
@settings(max_examples=25)
@given(mask=masks)
def test_every_phase_of_the_drivers_checks_the_mask_first(
    hypervisor: str, prefix: str, accepted: int, api: str, mask: int
) -> None:
    """The number holds only offending bits, the text names the phase's own function."""
    verdict = ask(hypervisor, api, flags_value=hex(mask | 1 << 30), params={"nope": 1})
    function = f"{prefix}DomainMigrate{api.capitalize()}Params"
    offending = (mask | 1 << 30) & ~accepted
    assert verdict == refused("INVALID_ARG", f"unsupported flags (0x{offending:x}) in function {function}")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("NON_SHARED_DISK", "NON_SHARED_INC"), "'VIR_MIGRATE_NON_SHARED_DISK' and 'VIR_MIGRATE_NON_SHARED_INC'"),
        (("TUNNELLED", "PARALLEL"), "'VIR_MIGRATE_TUNNELLED' and 'VIR_MIGRATE_PARALLEL'"),
    ],
)
@pytest.mark.parametrize("api", ["touri", "touri2", "touri3", "migrate", "migrate2"])
def test_pairs_exclude_each_other(api: str, flags: tuple[str, ...], message: str) -> None:
    """The macro's text holds the names of both flags."""
    verdict = ask("qemu", api, "PEER2PEER", *flags)
    assert verdict == refused("INVALID_ARG", f"Flags {message} are mutually exclusive")


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        ({"api": "touri3", "ro": "source"}, "OPERATION_DENIED", "read only access prevents virDomainMigrateToURI3"),
        (
            {"api": "begin3", "ro": "source"},
            "OPERATION_DENIED",
            "read only access prevents virDomainMigrateBegin3Params",
        ),
        ({"api": "migrate2", "ro": "dest"}, "OPERATION_DENIED", "read only access prevents virDomainMigrate2"),
        ({"api": "touri", "dconnuri": None}, "INVALID_ARG", "duri in virDomainMigrateToURI must not be NULL"),
        (
            {"api": "migrate", "flags": ["TUNNELLED"]},
            "OPERATION_INVALID",
            "cannot perform tunnelled migration without using peer2peer flag",
        ),
        (
            {"api": "touri3", "flags": ["PEER2PEER"], "dconnuri": "qemu+ssh://localhost.localdomain/system"},
            "INVALID_ARG",
            "Attempt to migrate guest to the same host",
        ),
        (
            {"api": "touri3", "flags": ["PEER2PEER"], "dconnuri": "qemu+unix://host/system?socket=/x"},
            "INVALID_ARG",
            "using unix socket and remote server 'host' is not supported.",
        ),
        ({"api": "migrate3", "state": "shutoff"}, "OPERATION_INVALID", "domain is not running"),
        ({"api": "begin3", "cfg": "snapshot"}, "OPERATION_INVALID", "cannot migrate domain with 1 snapshots"),
        ({"api": "begin3", "cfg": ["autodestroy"]}, "OPERATION_INVALID", "domain is marked for auto destroy"),
        (
            {"api": "migrate3", "cfg": "tls-force"},
            "OPERATION_INVALID",
            "this libvirtd instance allows migration only with VIR_MIGRATE_TLS flag",
        ),
        (
            {"api": "begin3", "flags": ["POSTCOPY", "POSTCOPY_RESUME"]},
            "ARGUMENT_UNSUPPORTED",
            "resuming failed post-copy migration requires change protection",
        ),
        (
            {"api": "migrate3", "flags": ["LIVE", "POSTCOPY"], "state": "paused"},
            "ARGUMENT_UNSUPPORTED",
            "post-copy migration is not supported with non-live or paused migration",
        ),
        (
            {"api": "migrate3", "flags": ["LIVE", "ZEROCOPY"]},
            "OPERATION_INVALID",
            "zero-copy is only available for parallel migration",
        ),
        (
            {"api": "migrate3", "params": {"bandwidth.postcopy": 2**44}},
            "OVERFLOW",
            "migration parameter 'bandwidth.postcopy' must be less than 17592186044416",
        ),
        (
            {"api": "migrate3", "flags": ["NON_SHARED_DISK"], "cfg": "disk", "params": {"bandwidth": 2**43}},
            "OVERFLOW",
            "bandwidth must be less than 8796093022207",
        ),
        (
            {"api": "migrate3", "dst_setup": "same-shutoff", "params": {"destination_name": "renamed"}},
            "OPERATION_FAILED",
            "domain 't1' is already defined with uuid 11111111-2222-4333-8444-555555555555",
        ),
        ({"api": "prepare3"}, "INTERNAL_ERROR", "no domain XML passed"),
        ({"api": "migrate3", "dst_hostname": "localhost"}, "INTERNAL_ERROR", "hostname on destination resolved"),
        ({"api": "migrate3", "params": {"migrate_uri": "tcp:"}}, "INVALID_ARG", "missing host in migration URI: tcp:"),
        ({"api": "migrate3", "params": {"migrate_uri": "x"}}, "INVALID_ARG", "missing scheme in migration URI: x"),
        (
            {"api": "perform3", "flags": ["PEER2PEER"], "cookie": "x"},
            "OPERATION_INVALID",
            "received unexpected cookie with P2P migration",
        ),
        ({"api": "confirm3"}, "OPERATION_INVALID", "domain 't1' is not being migrated"),
        ({"api": "confirm3", "state": "absent"}, "NO_DOMAIN", "no domain with matching uuid"),
        ({"api": "begin3 twice"}, "OPERATION_INVALID", "another migration job is already running for domain 't1'"),
    ],
)
def test_rules_of_the_qemu_driver(request_: dict[str, Any], code: str, message: str) -> None:
    """Codes and texts as two real libvirt 9.0.0 daemons give them."""
    verdict = check_line(json.dumps({"hypervisor": "qemu", **request_}))
    assert verdict.error_code == f"VIR_ERR_{code}", verdict
    assert message in (verdict.message or "")


@pytest.mark.parametrize(
    ("flags", "values", "text"),
    [
        (
            "AUTO_CONVERGE",
            {"auto_converge.initial": 0},
            "'cpu_throttle_initial' expects an integer in the range of 1 to 99",
        ),
        ("AUTO_CONVERGE", {"auto_converge.increment": 256}, "'cpu-throttle-increment' expects uint8_t"),
        ("PARALLEL", {"parallel.connections": 0}, "'multifd_channels' expects a value between 1 and 255"),
        ("PARALLEL", {"parallel.connections": 256}, "'multifd-channels' expects uint8_t"),
        ("LIVE", {"compression": "mt", "compression.mt.level": -1}, "'compress-level' expects uint8_t"),
        ("LIVE", {"compression": "mt", "compression.mt.threads": 0}, "'compress_threads' expects a value between"),
        ("LIVE", {"compression": "xbzrle", "compression.xbzrle.cache": 5000}, "'xbzrle_cache_size' expects a power"),
        ("ZEROCOPY,PARALLEL,COMPRESSED", {}, "Zero copy only available for non-compressed non-TLS multifd"),
    ],
)
def test_qemu_refuses_values_out_of_range(flags: str, values: dict[str, Any], text: str) -> None:
    """QEMU's own texts, as libvirt passes them on."""
    verdict = ask("qemu", "migrate3", "LIVE", *flags.split(","), params=values)
    assert verdict.error_code == "VIR_ERR_INTERNAL_ERROR"
    assert text in (verdict.message or "")
    assert "unable to execute QEMU command 'migrate-set-" in (verdict.message or "")


@pytest.mark.parametrize(
    ("cookie", "message"),
    [
        (f"<q>{SENDER}</q>", "Migration cookie was not NULL terminated"),
        ("<q></q>\0", "missing name element in migration data"),
        (f"<q>{SENDER.replace('t1', 't2')}</q>\0", "Incoming cookie data had unexpected name t2 vs t1"),
        (f"<q>{SENDER.replace('<hostname>src</hostname>', '')}</q>\0", "missing hostname element"),
        (f"<q>{SENDER.replace('aaaaaaaa', 'zz')}</q>\0", "malformed hostuuid element in migration data"),
        (f"<q>{SENDER}<feature/></q>\0", "missing feature name"),
        (f"<q>{SENDER}<feature name='graphics'/></q>\0", "Unsupported migration cookie feature graphics"),
        (f"<q>{SENDER}<lockstate/></q>\0", "Missing lock driver name in migration cookie"),
        (f"<q>{SENDER}<nbd port='x'/></q>\0", "Malformed nbd port 'x'"),
        (f"<q>{SENDER}<nbd><disk target='vda'/></nbd></q>\0", "Malformed disk capacity: '<null>'"),
    ],
)
def test_the_qemu_cookie_reader(cookie: str, message: str) -> None:
    """Who sent it, what it demands, then its parts."""
    verdict = ask("qemu", "prepare3", "LIVE", params={"destination_xml": "<xml>"}, cookie=cookie)
    assert verdict.error_code == "VIR_ERR_INTERNAL_ERROR"
    assert message in (verdict.message or "")


@pytest.mark.parametrize(
    ("cookie", "code", "message"),
    [
        (None, "INTERNAL_ERROR", "Invalid migration cookie"),
        ("", "INTERNAL_ERROR", "Invalid migration cookie"),
        ("<vz-migration/>", "INTERNAL_ERROR", "Invalid migration cookie"),
        ("<vz-migration/>\0", "INTERNAL_ERROR", "missing or malformed session-uuid element in migration data"),
        ("<a><session-uuid>zz</session-uuid></a>\0", "INTERNAL_ERROR", "missing or malformed session-uuid"),
        ("secret\0", "XML_DETAIL", "(_migration_cookie):1: Start tag expected, '<' not found"),
        ("<a><b>\n</a>\0", "XML_DETAIL", "(_migration_cookie):2: Opening and ending tag mismatch: b line 1 and a"),
        ("<a>\0", "XML_DETAIL", "(_migration_cookie):1: Premature end of data in tag a line 1"),
    ],
)
def test_the_vz_cookie_reader(cookie: str | None, code: str, message: str) -> None:
    """Only the session is read; a message never holds what stands in a cookie."""
    verdict = ask("vz", "perform3", "LIVE", params={"migrate_uri": "vzmigr://b"}, cookie=cookie)
    assert verdict.error_code == f"VIR_ERR_{code}"
    assert message in (verdict.message or "")
    assert "secret" not in (verdict.message or "")


def test_a_vz_session_is_read_with_or_without_dashes() -> None:
    """The root's name and further elements do not matter."""
    for uuid in ("01234567-89ab-cdef-0123-456789abcdef", "0123456789ABCDEF0123456789ABCDEF"):
        cookie = f"<other><session-uuid>{uuid}</session-uuid><x/></other>\0"
        assert ask("vz", "perform3", "LIVE", params={"migrate_uri": "vzmigr://b:64000"}, cookie=cookie).ok


@given(st.text())
def test_reading_uris_and_uuids_is_total(text: str) -> None:
    """Any text is a URI, or is refused with itself in the message."""
    uuid_ok(text)
    try:
        uri = parse_uri(text)
    except Rejected as refusal:
        assert refusal.message == f"Unable to parse URI {text}"  # noqa: PT017
    else:
        assert 0 <= uri.port < 2**31


@given(st.sampled_from(list(PROFILES)), masks, params, st.sampled_from(list(DomainState)))
def test_the_relays_check_is_total(profile: str, mask: int, values: dict[str, ParamValue], state: DomainState) -> None:
    """Any flags, parameters and state are taken or refused, and nothing else is raised."""
    try:
        check_migration(profile, mask, values, state)
    except Rejected:
        return
    assert mask & ~PROFILES[profile].accepted == 0


@pytest.mark.parametrize("profile", list(PROFILES))
@pytest.mark.parametrize("state", [DomainState.RUNNING, DomainState.PAUSED])
def test_the_defaults_of_every_profile_pass(profile: str, state: DomainState) -> None:
    """``vmrelay migrate`` without options is never refused for its flags."""
    check_migration(profile, resolve(profile, {}), {}, state)
    check_migration(profile, resolve(profile, {"paused": True}), {"destination_name": "new"}, state)


@pytest.mark.parametrize(
    ("profile", "mask", "values", "message"),
    [
        ("vz", 0x801, {}, "flags VIR_MIGRATE_PERSIST_DEST must be set for vz migration"),
        (
            "vz",
            0xA09,
            {},
            "unsupported flags (0x200) in function vzCheckFlags (UNSAFE: vz disks always have cache=none)",
        ),
        ("vz", 0x809, {"bandwidth": 5}, "Bandwidth rate limiting is not supported"),
        ("vz", 0x809, {"destination_xml": "<domain/>"}, "Changing destination XML is not supported"),
        ("vz", 0x809, {"compression": "mt"}, "parameter 'compression' not supported"),
        ("vz", 0x809, {"migrate_uri": "tcp://b"}, "unsupported scheme tcp in migration URI tcp://b"),
        (
            "vz-libvirt",
            0x419,
            {},
            "offline migration is not supported by the source host (OFFLINE: the driver lacks the offline feature)",
        ),
        ("qemu", 0x40000001, {}, "(0x40000000) in function qemuDomainMigrateBegin3Params (0x40000000: no such flag)"),
        (
            "qemu",
            0x5,
            {},
            "cannot perform tunnelled migration without using peer2peer flag (TUNNELLED: ask for PEER2PEER",
        ),
    ],
)
def test_the_relay_hears_libvirts_text_and_the_reason(
    profile: str, mask: int, values: dict[str, ParamValue], message: str
) -> None:
    """Where a flag is to blame the driver's reason follows in parentheses."""
    with pytest.raises(Rejected) as refusal:
        check_migration(profile, mask, values, DomainState.RUNNING)
    assert message in refusal.value.message
    assert refusal.value.code.startswith("VIR_ERR_")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["migrate", "--live", "--offline", "t1", "<dst>"], "Options --live and --offline are mutually exclusive"),
        (["migrate", "--live", "--timeout", "x", "t1", "<dst>"], "Numeric value 'x' for <timeout> option is malformed"),
        (["migrate", "--timeout", "5", "t1", "<dst>"], "migrate: Unexpected timeout for offline migration"),
        (["migrate", "--live", "--live", "t1", "<dst>"], "option --live already seen"),
        (["migrate", "--live", "t1", "<dst>", "--xml"], "expected syntax: --xml <string>"),
        (["migrate", "--live", "--dname", "", "t1", "<dst>"], "Failed to get option 'dname': Option argument is empty"),
        (["migrate", "--live", "--p2p=1", "t1", "<dst>"], "invalid '=' after option --p2p"),
        (["migrate", "--live", "--xml", "/nonexistent/file", "t1", "<dst>"], "cannot read file '/nonexistent/file'"),
        (["migrate-setmaxdowntime", "t1", "0"], "migrate: Invalid downtime"),
        (["migrate-setspeed", "t1", "-1"], "bandwidth must be less than 8796093022208"),
        (["migrate-setspeed", "t1"], "command 'migrate-setspeed' requires --bandwidth option"),
        (["domjobabort", "t1"], "no job is active on the domain"),
        (["nope"], "unknown command: 'nope'"),
    ],
)
def test_virsh_speaks_for_itself(argv: list[str], message: str) -> None:
    """virsh's own tests come before libvirt's; virsh prints no code."""
    verdict = ask("qemu", "virsh", argv=argv)
    assert (verdict.ok, verdict.error_code) == (False, None)
    assert message in (verdict.message or "")
