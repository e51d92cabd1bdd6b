"""What a request may ask of perform, over every cell: wishes, drivers, flags, settings."""

from __future__ import annotations

from itertools import product

import pytest

from tasks.convergence import convergence
from worker.contract import MigrateRequest
from worker.errors import Rejected
from worker.hypervisors.convergence import Convergence, StallAction
from worker.hypervisors.flags import PROFILES, MigrateFlag

LIVE, OFFLINE, POSTCOPY = (int(flag) for flag in (MigrateFlag.LIVE, MigrateFlag.OFFLINE, MigrateFlag.POSTCOPY))
FLAGS = [sum(bits) for bits in product((0, LIVE), (0, OFFLINE), (0, POSTCOPY))]
REQUESTS = [
    MigrateRequest(
        domain="web",
        destination="beta",
        on_stall=on_stall,
        timeout_seconds=timeout,
        on_timeout=on_timeout,
        postcopy_after_precopy=switch,
    )
    for on_stall, timeout, on_timeout, switch in product(
        (None, *StallAction), (None, 5.0), (None, StallAction.SUSPEND, StallAction.POSTCOPY), (False, True)
    )
]


def wants_postcopy(request: MigrateRequest) -> bool:
    """Whether the request itself asks for a switch to post-copy."""
    return StallAction.POSTCOPY in (request.on_stall, request.on_timeout) or request.postcopy_after_precopy


def test_every_cell_is_what_was_asked_for_or_a_refusal() -> None:
    """Nothing that was asked for is dropped, nothing that cannot be done is taken, no setting refuses a request."""
    for request, profile, flags, default in product(REQUESTS, PROFILES, FLAGS, StallAction):
        cell = (request, profile, flags, default)
        steered = (
            request.on_stall not in (None, StallAction.REPORT) or request.timeout_seconds or wants_postcopy(request)
        )
        impossible = (
            (request.on_timeout is not None and request.timeout_seconds is None)
            or (steered and (profile != "qemu" or flags & OFFLINE))
            or (request.timeout_seconds and not flags & LIVE)
            or (wants_postcopy(request) and not flags & POSTCOPY)
        )
        try:
            found = convergence(request, profile, flags, default)
        except Rejected:
            assert impossible, cell
            continue
        assert not impossible, cell
        assert found.on_stall is (request.on_stall or found.on_stall), cell
        assert found.timeout_seconds == request.timeout_seconds, cell
        assert found.on_timeout is (request.on_timeout or StallAction.SUSPEND), cell
        assert found.postcopy_after_precopy is request.postcopy_after_precopy, cell
        if request.on_stall is None:
            assert found.on_stall in (default, StallAction.REPORT), cell
        if StallAction.POSTCOPY in (found.on_stall, found.on_timeout):
            assert flags & POSTCOPY, cell
        if profile != "qemu":
            assert found == Convergence(), cell


@pytest.mark.parametrize("action", list(StallAction))
def test_the_settings_action_holds_where_it_can(action: StallAction) -> None:
    """A request that names none takes it on qemu; post-copy only where the flags allow that."""
    request = MigrateRequest(domain="web", destination="beta")
    assert convergence(request, "qemu", LIVE | POSTCOPY, action).on_stall is action
    expected = StallAction.REPORT if action is StallAction.POSTCOPY else action
    assert convergence(request, "qemu", LIVE, action).on_stall is expected
    assert convergence(request, "vz", LIVE, action).on_stall is StallAction.REPORT


@pytest.mark.parametrize(
    ("asked", "profile", "flags", "code", "told"),
    [
        ({"on_timeout": "suspend"}, "qemu", LIVE, "needs-timeout", "timeout_seconds"),
        ({"timeout_seconds": 5}, "qemu", 0, "timeout-needs-live", "LIVE"),
        ({"timeout_seconds": 5}, "qemu", LIVE | OFFLINE, "timeout-needs-live", "OFFLINE"),
        ({"timeout_seconds": 5, "on_timeout": "postcopy"}, "qemu", LIVE, "needs-postcopy", "on_timeout=postcopy"),
        ({"on_stall": "postcopy"}, "qemu", LIVE, "needs-postcopy", "on_stall=postcopy"),
        ({"postcopy_after_precopy": True}, "qemu", LIVE, "needs-postcopy", "postcopy_after_precopy"),
        ({"on_stall": "abort"}, "qemu", OFFLINE, "not-supported", "no perform"),
        ({"on_stall": "abort"}, "vz", LIVE, "not-supported", "SDK cannot steer"),
        ({"timeout_seconds": 5}, "vz-libvirt", LIVE, "not-supported", "timeout_seconds"),
        ({"postcopy_after_precopy": True}, "vz", LIVE, "not-supported", "SDK cannot steer"),
    ],
)
def test_a_refusal_says_what_and_why(asked: dict[str, object], profile: str, flags: int, code: str, told: str) -> None:
    """Each has its code, and names the field or the reason."""
    request = MigrateRequest.parse({"domain": "web", "destination": "beta"} | asked)
    with pytest.raises(Rejected) as refusal:
        convergence(request, profile, flags, StallAction.REPORT)
    assert refusal.value.code == code
    assert told in refusal.value.message
