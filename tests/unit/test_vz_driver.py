"""The driver's phases against a scripted SDK."""

from __future__ import annotations

import pytest
from vz_fake import FLAGS, MOVE, PAUSED, UUID, FakeHost, FakeJob, FakeVm, FakeWatch

from worker.errors import HypervisorError, Rejected, Retry
from worker.hypervisors.base import Domain, DomainState, Hypervisor, Move
from worker.hypervisors.vz import cookie, definition
from worker.hypervisors.vz.connection import Limits
from worker.hypervisors.vz.sdk import VmState

XML = definition.write(FakeVm(FakeHost()))


@pytest.fixture
def host() -> FakeHost:
    """A dispatcher without VMs."""
    return FakeHost()


def failing(call: object) -> HypervisorError:
    """The error that a call ends with."""
    with pytest.raises(HypervisorError) as caught:
        call()  # type: ignore[operator]
    return caught.value


def test_the_driver_is_a_hypervisor(host: FakeHost) -> None:
    """It implements the protocol, with the profile of the 2015 patch."""
    driver: Hypervisor = host.driver()
    assert driver.profile == "vz"


def test_open_logs_in_once_and_registers_for_events(host: FakeHost) -> None:
    """High security, non-interactive, no previous session; close leaves nothing registered."""
    driver = host.driver()
    driver.open()
    driver.open()
    assert host.calls == [("login", "", 0, 2, 4), ("register",)]
    driver.close()
    driver.close()
    assert host.handlers == []
    assert not host.servers[0].alive


def test_a_refused_login_leaves_no_connection(host: FakeHost) -> None:
    """The error has the SDK's class, and the connection is dropped."""
    host.login_code = 0x80000330
    assert failing(host.driver().open).retry is Retry.OPERATOR
    assert not host.servers[0].alive


def test_domains_and_inspect(host: FakeHost) -> None:
    """Plain uuids, states of the driver's own, absent where there is none."""
    driver = host.driver()
    host.add(VmState.PAUSED)
    seen = Domain("web-1", UUID, DomainState.PAUSED, memory_bytes=2**30)
    assert driver.domains() == [seen]
    assert driver.inspect(UUID) == seen
    host.vms.clear()
    assert driver.inspect(UUID).state is DomainState.ABSENT


@pytest.mark.parametrize("state", list(VmState))
def test_every_sdk_state_means_something(host: FakeHost, state: VmState) -> None:
    """No state of the SDK is shown as absent; a guest between two states still counts as running."""
    host.add(state)
    assert host.driver().inspect(UUID).state is not DomainState.ABSENT


@pytest.mark.parametrize("code", [0x80000251, 0x80000059, 0x80000246])
def test_a_lost_session_is_made_anew(host: FakeHost, code: int) -> None:
    """A look through a dead session is repeated through a new one."""
    driver = host.driver()
    host.add()
    driver.open()
    host.next_look.append(code)
    assert driver.inspect(UUID).state is DomainState.RUNNING
    assert len(host.servers) == 2


def test_a_dropped_connection_is_noticed(host: FakeHost) -> None:
    """``PrlSrv_IsConnected`` is asked before each use."""
    driver = host.driver()
    driver.open()
    host.servers[0].alive = False
    assert driver.domains() == []
    assert len(host.servers) == 2


def test_begin_gives_definition_cookie_and_paused(host: FakeHost) -> None:
    """What libvirt's vz begin gives: own session, uuid and name."""
    host.add(VmState.PAUSED)
    begun = host.driver().begin(MOVE, FakeWatch())
    assert definition.read(begun.xml) == definition.Definition("web-1", UUID)
    assert begun.paused
    assert cookie.domain_uuid(begun.cookie) == UUID
    assert f"{{{cookie.session_uuid(begun.cookie)}}}" == host.sessions[0]


def test_begin_checks_the_flags_before_it_touches_the_host(host: FakeHost) -> None:
    """Refused as the validator refuses, without a login."""
    with pytest.raises(Rejected, match="VIR_MIGRATE_COMPRESSED must be set"):
        host.driver().begin(Move("web-1", UUID, 0x9), FakeWatch())
    assert host.servers == []


@pytest.mark.parametrize(
    ("state", "code", "retry"),
    [
        (None, "VIR_ERR_NO_DOMAIN", Retry.PERMANENT),
        (VmState.STOPPED, "VIR_ERR_OPERATION_INVALID", Retry.PERMANENT),
        (VmState.SUSPENDED, "VIR_ERR_OPERATION_INVALID", Retry.PERMANENT),
        (VmState.STARTING, "VIR_ERR_OPERATION_INVALID", Retry.OPERATOR),
        (VmState.MIGRATING, "PRL_ERR_VM_LOCKED_FOR_MIGRATE", Retry.VERIFY),
    ],
)
def test_begin_refuses_what_cannot_migrate(host: FakeHost, state: VmState | None, code: str, retry: Retry) -> None:
    """Absent, stopped, in between for too long, migrating already."""
    if state is not None:
        host.add(state)
    error = failing(lambda: host.driver().begin(MOVE, FakeWatch()))
    assert (error.code, error.retry) == (code, retry)


def test_begin_waits_for_a_guest_that_is_just_starting(host: FakeHost) -> None:
    """A state in between is transient."""
    host.add()
    host.states.extend([VmState.STARTING, VmState.STARTING, VmState.RUNNING])
    watch = FakeWatch()
    assert not host.driver().begin(MOVE, watch).paused
    assert len(watch.retries) == 2


def test_prepare_hands_out_uri_and_its_live_session(host: FakeHost) -> None:
    """The cookie holds the destination's own session; begin's cookie is not looked at."""
    prepared = host.driver("beta").prepare(MOVE, XML, b"anything", FakeWatch())
    assert prepared.uri == "vzmigr://beta"
    assert f"{{{cookie.session_uuid(prepared.cookie)}}}" == host.sessions[0]


def test_prepare_returns_a_given_uri(host: FakeHost) -> None:
    """Unchecked, as in libvirt: perform parses it."""
    move = Move("web-1", UUID, FLAGS, {"migrate_uri": "tcp://x/y"})
    assert host.driver("localhost").prepare(move, XML, b"", FakeWatch()).uri == "tcp://x/y"


def test_prepare_refuses_what_is_taken(host: FakeHost) -> None:
    """The uuid, or the name that the domain is to have."""
    vm = host.add()
    driver = host.driver("beta")
    error = failing(lambda: driver.prepare(MOVE, XML, b"", FakeWatch()))
    assert (error.code, error.retry) == ("PRL_ERR_VM_ALREADY_REGISTERED_VM_UUID", Retry.PERMANENT)
    vm.uuid = "{11111111-2222-4333-8444-555555555555}"
    error = failing(lambda: driver.prepare(MOVE, XML, b"", FakeWatch()))
    assert (error.code, error.retry) == ("PRL_ERR_VM_ALREADY_REGISTERED_VM_NAME", Retry.PERMANENT)
    renamed = Move("web-1", UUID, FLAGS, {"destination_name": "web-2"})
    driver.prepare(renamed, XML, b"", FakeWatch())


def test_prepare_refuses_the_definition_of_another_domain(host: FakeHost) -> None:
    """A baton mixed up must not open the door."""
    other = Move("web-1", "11111111-2222-4333-8444-555555555555", FLAGS)
    assert failing(lambda: host.driver().prepare(other, XML, b"", FakeWatch())).retry is Retry.PERMANENT


def test_finish_finds_the_domain_by_performs_cookie(host: FakeHost) -> None:
    """It waits while the destination is not done, then tells what runs."""
    host.add()
    host.states.extend([VmState.MIGRATING, VmState.MIGRATING, VmState.RUNNING])
    finished = host.driver().finish(MOVE, cookie.from_perform(UUID), False, FakeWatch())
    assert finished.domain.state is DomainState.RUNNING


def test_finish_refuses_a_cookie_of_another_domain(host: FakeHost) -> None:
    """Nothing is paused or started by mistake."""
    host.add()
    other = cookie.from_perform("11111111-2222-4333-8444-555555555555")
    assert failing(lambda: host.driver().finish(MOVE, other, False, FakeWatch())).retry is Retry.PERMANENT


def test_finish_after_a_lost_cookie_looks_for_the_domain_that_was_to_move(host: FakeHost) -> None:
    """Recovery may have none."""
    host.add()
    assert host.driver().finish(MOVE, b"", False, FakeWatch()).domain.uuid == UUID


def test_finish_pauses_a_guest_that_was_to_arrive_paused(host: FakeHost) -> None:
    """Today's dispatcher ignores PVMT_DONT_RESUME_VM: corrected and verified."""
    host.add()
    move = Move("web-1", UUID, FLAGS | PAUSED)
    finished = host.driver().finish(move, cookie.from_perform(UUID), False, FakeWatch())
    assert finished.domain.state is DomainState.PAUSED
    assert host.count("pause") == 1
    host.driver().finish(move, cookie.from_perform(UUID), False, FakeWatch())
    assert host.count("pause") == 1


def test_finish_says_where_pausing_does_not_help(host: FakeHost) -> None:
    """A guest that goes on running is not called paused."""
    host.add()
    host.deaf.add("pause")
    move = Move("web-1", UUID, FLAGS | PAUSED)
    error = failing(lambda: host.driver().finish(move, cookie.from_perform(UUID), False, FakeWatch()))
    assert error.retry is Retry.VERIFY


@pytest.mark.parametrize("state", [None, VmState.STOPPED, VmState.MIGRATING])
def test_finish_without_a_running_guest_wants_both_sides_looked_at(host: FakeHost, state: VmState | None) -> None:
    """Absent, stopped, or not done in time."""
    if state is not None:
        host.add(state)
    assert failing(lambda: host.driver().finish(MOVE, b"", False, FakeWatch())).retry is Retry.VERIFY


@pytest.mark.parametrize("state", [VmState.RUNNING, VmState.STOPPED, VmState.PAUSED])
def test_a_cancelled_finish_only_looks(host: FakeHost, state: VmState) -> None:
    """Whatever is there stays there."""
    vm = host.add(state)
    finished = host.driver().finish(MOVE, b"", True, FakeWatch())
    assert host.vms == [vm]
    assert finished.domain.state is host.driver().inspect(UUID).state


def test_a_cancelled_finish_waits_for_the_dispatchers_cleaning(host: FakeHost) -> None:
    """What is still being taken back is not reported as left over."""
    host.add()
    host.states.extend([VmState.MIGRATING, VmState.STOPPED])
    limits = Limits(settle=30)
    driver = host.driver(limits=limits)
    host.next_look.extend([])
    original = host.states

    class Cleaning(type(original)):  # type: ignore[misc]
        """Once the states are used up, the VM is gone."""

        def popleft(self) -> VmState:
            state = super().popleft()
            if not self:
                host.vms.clear()
            return state

    host.states = Cleaning(original)
    assert driver.finish(MOVE, b"", True, FakeWatch()).domain.state is DomainState.ABSENT


def test_confirm_verifies_that_the_source_let_go(host: FakeHost) -> None:
    """Absent is well."""
    assert host.driver().confirm(MOVE, b"", False, FakeWatch()).state is DomainState.ABSENT


@pytest.mark.parametrize(
    ("state", "code", "retry"),
    [
        (VmState.STOPPED, "source-stub", Retry.OPERATOR),
        (VmState.RUNNING, "source-kept", Retry.VERIFY),
        (VmState.MIGRATING, "source-kept", Retry.VERIFY),
    ],
)
def test_confirm_reports_what_the_source_kept(host: FakeHost, state: VmState, code: str, retry: Retry) -> None:
    """A stopped stub is for an operator, anything else is doubt; nothing is removed."""
    vm = host.add(state)
    error = failing(lambda: host.driver().confirm(MOVE, b"", False, FakeWatch()))
    assert (error.code, error.retry) == (code, retry)
    assert host.vms == [vm]


def test_a_cancelled_confirm_only_looks(host: FakeHost) -> None:
    """Resuming is a call of its own."""
    host.add(VmState.PAUSED)
    assert host.driver().confirm(MOVE, b"", True, FakeWatch()).state is DomainState.PAUSED
    assert host.count("start") == 0


def test_resume(host: FakeHost) -> None:
    """A paused guest runs on; a running one is left alone; any other cannot be resumed."""
    vm = host.add(VmState.PAUSED)
    driver = host.driver()
    assert driver.resume(UUID).state is DomainState.RUNNING
    assert driver.resume(UUID).state is DomainState.RUNNING
    assert host.count("start") == 1
    vm.state = VmState.STOPPED
    assert failing(lambda: driver.resume(UUID)).retry is Retry.OPERATOR


def test_remove_kills_and_unregisters_but_deletes_no_file(host: FakeHost) -> None:
    """The files may be those of the living copy; a second remove is harmless."""
    host.add(VmState.PAUSED)
    driver = host.driver()
    driver.remove(UUID)
    driver.remove(UUID)
    assert [call for call in host.calls if call[0] in ("stop", "unregister")] == [("stop",), ("unregister",)]


def test_remove_leaves_a_migrating_domain_alone(host: FakeHost) -> None:
    """Abort comes first."""
    host.add(VmState.MIGRATING)
    assert failing(lambda: host.driver().remove(UUID)).retry is Retry.VERIFY
    assert len(host.vms) == 1


def test_abort_of_a_foreign_migration_is_asked_of_the_dispatcher(host: FakeHost) -> None:
    """``PrlVm_MigrateCancel``; where nothing runs it is never answered, which must not hold anyone up."""
    driver = host.driver()
    driver.abort(UUID)
    assert host.count("migrate_cancel") == 0
    host.add(VmState.MIGRATING)
    host.jobs.append(FakeJob())
    driver.abort(UUID)
    host.vms[0].state = VmState.RUNNING
    driver.abort(UUID)
    assert host.count("migrate_cancel") == 2
