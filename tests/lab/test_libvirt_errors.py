"""libvirt's errors and states in vmrelay's words. Needs libvirt-python, no host."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import Retry
from worker.hypervisors.base import DomainState

pytestmark = pytest.mark.lab


@pytest.mark.parametrize(
    ("code", "message", "retry", "untouched"),
    [
        ("VIR_ERR_SYSTEM_ERROR", "Cannot write data: Broken pipe", Retry.TRANSIENT, False),
        ("VIR_ERR_INTERNAL_ERROR", "client socket is closed", Retry.TRANSIENT, False),
        ("VIR_ERR_INTERNAL_ERROR", "something new", Retry.OPERATOR, False),
        ("VIR_ERR_OPERATION_TIMEOUT", "cannot acquire state change lock", Retry.TRANSIENT, True),
        ("VIR_ERR_CPU_INCOMPATIBLE", "the CPU is incompatible with host CPU", Retry.PERMANENT, True),
        ("VIR_ERR_INVALID_ARG", "conflicting flags", Retry.PERMANENT, True),
        ("VIR_ERR_OPERATION_INVALID", "domain 'a' is not being migrated", Retry.DONE, False),
        ("VIR_ERR_OPERATION_FAILED", "job 'migration out' failed: Unable to write", Retry.TRANSIENT, False),
        ("VIR_ERR_OPERATION_FAILED", "job 'migration in' failed in post-copy phase", Retry.OPERATOR, False),
        ("VIR_ERR_OPERATION_FAILED", "migration of disk vda failed: ...", Retry.TRANSIENT, False),
        ("VIR_ERR_OPERATION_FAILED", "migration out: Certificate does not match the hostname", Retry.OPERATOR, False),
        ("VIR_ERR_OPERATION_FAILED", "Failed to connect to remote libvirt URI x: y", Retry.TRANSIENT, True),
        ("VIR_ERR_SYSTEM_ERROR", "Cannot access storage file '/a': No such file or directory", Retry.OPERATOR, False),
        ("VIR_ERR_INTERNAL_ERROR", "Unable to find an unused port in range 'migration'", Retry.TRANSIENT, False),
        ("VIR_ERR_INTERNAL_ERROR", "Unknown migration cookie feature x", Retry.PERMANENT, False),
        ("VIR_ERR_NOBODY_KNOWS", "", Retry.OPERATOR, False),
    ],
)
def test_rules(code: str, message: str, retry: Retry, untouched: bool) -> None:
    """The table says what the facts say."""
    from worker.hypervisors.libvirt.errors import rule_for

    rule = rule_for(code, message)
    assert (rule.retry, rule.untouched) == (retry, untouched)


def test_every_rule_can_be_reached_and_names_a_code() -> None:
    """No row is hidden by one above it, each names a code that libvirt has, and says why."""
    from worker.hypervisors.libvirt import errors

    symbols = set(errors._SYMBOLS.values())
    for rule in errors.RULES:
        assert rule.code in symbols
        assert rule.reason
        assert errors.rule_for(rule.code, rule.text) is rule


@given(st.sampled_from(["open", "sent"]), st.text(max_size=40))
def test_an_error_without_a_rule_is_never_retried_blindly(when: str, message: str) -> None:
    """Whatever libvirt says that the table does not know: verify where it may matter, else an operator."""
    import libvirt

    from worker.hypervisors.libvirt.errors import classed

    error = libvirt.libvirtError(message)
    error.err = (libvirt.VIR_ERR_HOOK_SCRIPT_FAILED, libvirt.VIR_FROM_QEMU, message, 2, "", "", "", 0, 0)
    failure = classed(error, effect=when == "sent")
    assert failure.after is Retry.OPERATOR
    assert failure.retry is (Retry.VERIFY if when == "sent" else Retry.OPERATOR)
    assert failure.untouched == (when == "open")


def test_a_call_that_may_have_worked_is_verified_first() -> None:
    """The same broken socket is retried after a look-up, and verified after a phase."""
    import libvirt

    from worker.hypervisors.libvirt.errors import classed

    error = libvirt.libvirtError("")
    error.err = (libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_RPC, "", 2, "", "", "", 0, 0)
    assert classed(error, effect=False).retry is Retry.TRANSIENT
    sent = classed(error, effect=True)
    assert (sent.retry, sent.after, sent.untouched) == (Retry.VERIFY, Retry.TRANSIENT, False)


@given(st.integers(0, 9), st.integers(0, 20), st.sampled_from(["none", "out", "in"]))
def test_states(state: int, reason: int, job: str) -> None:
    """No state of libvirt is taken for running or absent that is not, and migration pauses have a side."""
    from worker.hypervisors.libvirt.states import Job, domain_state

    seen = domain_state(state, reason, Job(job))
    assert seen is not DomainState.ABSENT
    switched = (state, reason) in ((1, 10), (3, 12))  # post-copy: running there, paused here
    if seen is DomainState.RUNNING:
        assert state in (1, 2, 4)  # running, blocked, shutting down
        assert job == "none"
    if seen is DomainState.MIGRATING:
        assert job != "none"
        assert switched or state in (1, 2, 4)
    if seen is DomainState.PAUSED_IN:
        assert (state in (3, 5), job) == (True, "in")  # paused; shut off, by an offline migration
    if seen is DomainState.PAUSED_OUT:
        assert (state, reason, job != "in") == (3, 2, True)
    if (state, reason) in ((1, 11), (3, 13)) or (switched and job == "none"):
        assert seen is DomainState.UNKNOWN  # post-copy that failed, or whose job is gone


def test_progress() -> None:
    """Statistics become bytes, rates and a share that never says done too early."""
    from worker.hypervisors.libvirt.states import progress_of

    stats = {"data_total": 100, "data_remaining": 25, "memory_iteration": 2, "downtime": 300}
    seen = progress_of({**stats, "memory_dirty_rate": 10, "memory_page_size": 4096, "memory_bps": 7})
    assert (seen.percent, seen.remaining_bytes, seen.dirty_bytes_per_second) == (75, 25, 40960)
    assert (seen.bandwidth_bytes_per_second, seen.expected_downtime_seconds) == (7, 0.3)
    assert progress_of({"data_total": 100, "data_remaining": 0}).percent == 99
    assert progress_of({}).percent == 0
