"""Perform against a scripted SDK: the job, its retries, cancels and losses."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from vz_fake import (
    FLAGS,
    MOVE,
    PAUSED,
    QUICK,
    UUID,
    FakeHost,
    FakeJob,
    FakeVm,
    FakeWatch,
    ended,
    progress_event,
    started,
)

from worker.errors import Cancelled, HypervisorError, Retry
from worker.hypervisors.base import Move, Performed, Stop
from worker.hypervisors.vz import cookie
from worker.hypervisors.vz.sdk import Event, VmState, signed

SESSION = "2f1c4a52-8a64-4b6e-9d0f-1f2e3d4c5b6a"
COOKIE = cookie.from_prepare(SESSION)
URI = "vzmigr://beta:7000"


@pytest.fixture
def host() -> FakeHost:
    """A source with the VM."""
    host = FakeHost()
    host.add()
    return host


def perform(host: FakeHost, watch: FakeWatch | None = None, move: Move = MOVE, uri: str = URI) -> Performed:
    """One perform."""
    return host.driver().perform(move, "", uri, COOKIE, watch or FakeWatch())


def failure(call: Callable[[], object]) -> HypervisorError:
    """The error that perform ends with."""
    with pytest.raises(HypervisorError) as caught:
        call()
    return caught.value


def in_time(host: FakeHost) -> Callable[[FakeJob], FakeJob]:
    """A cancel that stops the job: the old state is back."""

    def cancel(job: FakeJob) -> FakeJob:
        job.steps.clear()
        job.code, job.hangs, job.end = 0x80000275, False, lambda: None
        host.vms[0].state = VmState.RUNNING
        return FakeJob()

    return cancel


def too_late(host: FakeHost, state: VmState | None) -> Callable[[FakeJob], FakeJob]:
    """A cancel that spoils only the answer: the VM runs on the destination."""

    def cancel(job: FakeJob) -> FakeJob:
        in_time(host)(job)
        if state is None:
            host.vms.clear()
        else:
            host.vms[0].state = state
        return FakeJob()

    return cancel


@pytest.mark.parametrize(("flags", "word"), [(FLAGS, 0x00800002), (FLAGS | PAUSED, 0x00804002)])
def test_the_job_is_asked_for_as_libvirt_does(host: FakeHost, flags: int, word: int) -> None:
    """Arguments in the SDK's order, PAUSED as PVMT_DONT_RESUME_VM, the handler registered before."""
    host.succeed()
    done = perform(host, move=Move("web-1", UUID, flags))
    assert ("migrate", "beta", 7000, f"{{{SESSION}}}", "", "", word, 0, True) in host.calls
    assert host.calls.index(("register",)) < len(host.calls) - 1
    assert cookie.domain_uuid(done.cookie) == UUID
    assert (done.downtime_seconds, done.transferred_bytes) == (0.025, 1000)


def test_the_destination_name_is_handed_on(host: FakeHost) -> None:
    """The case ``seed-perform-dname-set``."""
    host.succeed()
    perform(host, move=Move("web-1", UUID, FLAGS, {"destination_name": "renamed"}), uri="vzmigr://beta")
    assert ("migrate", "beta", 0, f"{{{SESSION}}}", "renamed", "", 0x00800002, 0, True) in host.calls


def test_checks_come_in_libvirts_order(host: FakeHost) -> None:
    """Cookie, domain, URI: the first that is wrong is reported, and nothing is asked of the SDK."""
    driver = host.driver()
    bad = failure(lambda: driver.perform(MOVE, "", "tcp://x", b"", FakeWatch()))
    assert bad.message == "Invalid migration cookie"
    vms, host.vms = host.vms, []
    assert failure(lambda: driver.perform(MOVE, "", "tcp://x", COOKIE, FakeWatch())).code == "VIR_ERR_NO_DOMAIN"
    host.vms = vms
    bad = failure(lambda: driver.perform(MOVE, "", "tcp://x", COOKIE, FakeWatch()))
    assert bad.code == "VIR_ERR_ARGUMENT_UNSUPPORTED"
    assert host.count("migrate") == 0


def test_progress_comes_from_the_events_of_this_vm(host: FakeHost) -> None:
    """Two sweeps; other VMs and unknown events do not matter; every slice is a heartbeat."""
    other = "11111111-2222-4333-8444-555555555555"
    host.succeed(
        steps=[
            lambda: host.tell(progress_event(50, other), Event(99, f"{{{UUID}}}")),
            lambda: host.tell(started(), progress_event(50)),
            lambda: host.tell(progress_event(100)),
            lambda: host.tell(progress_event(0)),
            lambda: host.tell(progress_event(60)),
            lambda: host.tell(progress_event(40), ended(downtime_ms=-1)),
            lambda: None,
        ]
    )
    watch = FakeWatch()
    perform(host, watch)
    assert [(seen.percent, seen.description) for seen in watch.seen] == [
        (0, "waiting"),
        (5, "files"),
        (10, "files"),
        (10, "memory"),
        (64, "memory"),
        (46, "memory"),
        (46, "memory"),
    ]


def test_missing_measurements_are_none(host: FakeHost) -> None:
    """Today's dispatcher tells neither downtime nor bytes."""
    host.jobs.append(FakeJob(end=lambda: (host.vms.clear(), host.tell(ended()))))
    done = perform(host)
    assert (done.downtime_seconds, done.transferred_bytes) == (None, None)


def test_a_positive_code_is_success(host: FakeHost) -> None:
    """31028 informs only."""
    host.jobs.append(FakeJob(31028, end=host.gone))
    perform(host)


def test_two_transient_failures_then_success(host: FakeHost) -> None:
    """Each retry is told, and made from the same state as the first try."""
    host.fail(0x80000510)
    host.fail(0x80038113)
    host.succeed()
    watch = FakeWatch()
    perform(host, watch)
    assert [(code, number) for code, number, _ in watch.retries] == [
        ("PRL_ERR_CANT_CONNECT_TO_DISPATCHER_ITERATIVELY", 1),
        ("PRL_ERR_VM_LOCKED_FOR_BACKUP", 2),
    ]
    assert host.count("migrate") == 3


@pytest.mark.parametrize(
    ("code", "retry"),
    [
        (0x80031004, Retry.PERMANENT),
        (0x80031055, Retry.OPERATOR),
        (0x80030001, Retry.REPREPARE),
        (0x80000062, Retry.VERIFY),
        (0x8BADC0DE, Retry.VERIFY),
    ],
)
def test_what_is_not_transient_is_not_repeated(host: FakeHost, code: int, retry: Retry) -> None:
    """One job, and its class and code for the caller."""
    host.fail(code)
    watch = FakeWatch()
    assert failure(lambda: perform(host, watch)).retry is retry
    assert (host.count("migrate"), watch.retries) == (1, [])


def test_tries_are_limited(host: FakeHost) -> None:
    """Then the transient error is the caller's."""
    for _ in range(9):
        host.fail(0x80000521)
    assert failure(lambda: perform(host)).retry is Retry.TRANSIENT
    assert host.count("migrate") == QUICK.tries + 1


def test_a_doubtful_code_before_the_start_is_repeated(host: FakeHost) -> None:
    """Without MIGRATE_STARTED nothing was touched: the hosts just did not reach each other."""
    host.fail(0x80037000)
    host.succeed()
    perform(host)
    assert host.count("migrate") == 2


@pytest.mark.parametrize("code", [0x80037000, 0x80000275, 0x80000015, 0x80000016])
def test_a_doubtful_code_after_the_start_is_for_the_caller(host: FakeHost, code: int) -> None:
    """It may be anywhere: both sides must be looked at first."""
    host.fail(code, steps=[lambda: host.tell(started())])
    error = failure(lambda: perform(host))
    assert (error.retry, error.after, error.untouched) == (Retry.VERIFY, Retry.TRANSIENT, False)
    assert host.count("migrate") == 1


@pytest.mark.parametrize("state", [VmState.STOPPED, VmState.PAUSED, VmState.MIGRATING])
def test_no_retry_from_another_state(host: FakeHost, state: VmState) -> None:
    """The source must show what it showed before; else only a look at both sides helps."""
    host.jobs.append(FakeJob(0x80000521, end=lambda: setattr(host.vms[0], "state", state)))
    error = failure(lambda: perform(host))
    assert (error.retry, error.code) == (Retry.VERIFY, "PRL_ERR_SERVICE_BUSY")
    assert host.count("migrate") == 1


def test_a_cancel_in_time(host: FakeHost) -> None:
    """The job is cancelled, its end awaited, the source looked at."""
    watch = FakeWatch()
    steps = [lambda: None, lambda: setattr(watch, "wish", Stop.CANCEL)]
    host.jobs.append(FakeJob(steps=steps, hangs=True, on_cancel=in_time(host)))
    with pytest.raises(Cancelled) as caught:
        perform(host, watch)
    assert caught.value.code == "cancelled"


def test_the_deadline_stops_perform(host: FakeHost) -> None:
    """As a cancel does, with a code of its own."""
    host.jobs.append(FakeJob(hangs=True, on_cancel=in_time(host)))
    with pytest.raises(Cancelled) as caught:
        perform(host, move=Move("web-1", UUID, FLAGS, deadline_seconds=0.0))
    assert caught.value.code == "deadline"


@pytest.mark.parametrize("state", [None, VmState.STOPPED, VmState.PAUSED])
def test_a_late_cancel_is_not_called_cancelled(host: FakeHost, state: VmState | None) -> None:
    """The job says "cancelled", but the source has let go: the VM may run on the destination."""
    watch = FakeWatch()
    steps = [lambda: setattr(watch, "wish", Stop.CANCEL)]
    host.jobs.append(FakeJob(steps=steps, hangs=True, on_cancel=too_late(host, state)))
    error = failure(lambda: perform(host, watch))
    assert (error.retry, error.code) == (Retry.VERIFY, "PRL_ERR_OPERATION_WAS_CANCELED")


def test_a_cancel_after_success_is_success(host: FakeHost) -> None:
    """The dispatcher has moved it all the same."""
    watch = FakeWatch()
    steps = [lambda: setattr(watch, "wish", Stop.CANCEL), lambda: None]
    host.succeed(steps=steps)
    assert perform(host, watch).cookie


def test_a_cancel_that_is_not_followed_is_doubt(host: FakeHost) -> None:
    """After a bounded wait the caller must look."""
    host.jobs.append(FakeJob(hangs=True, on_cancel=lambda _: FakeJob()))
    watch = FakeWatch()
    host.jobs[0].steps.append(lambda: setattr(watch, "wish", Stop.CANCEL))
    error = failure(lambda: perform(host, watch))
    assert (error.retry, error.code) == (Retry.VERIFY, "PRL_ERR_TIMEOUT")


def test_a_stop_before_the_job_makes_none(host: FakeHost) -> None:
    """Nothing is asked of the SDK."""
    with pytest.raises(Cancelled):
        perform(host, FakeWatch(Stop.CANCEL))
    assert host.count("migrate") == 0


def test_a_stop_during_the_pause_ends_it(host: FakeHost) -> None:
    """The source was seen as before."""
    host.fail(0x80000521)
    watch = FakeWatch()
    watch.on_retry = lambda: setattr(watch, "wish", Stop.CANCEL)
    with pytest.raises(Cancelled):
        perform(host, watch)
    assert host.count("migrate") == 1


def test_abort_from_another_caller_is_a_cancel(host: FakeHost) -> None:
    """The driver's abort stops its own job by the job."""
    driver = host.driver()
    steps = [lambda: driver.abort(UUID)]
    host.jobs.append(FakeJob(steps=steps, hangs=True, on_cancel=in_time(host)))
    with pytest.raises(Cancelled):
        driver.perform(MOVE, "", URI, COOKIE, FakeWatch())
    assert host.count("migrate_cancel") == 0


def lose(host: FakeHost) -> None:
    """The connection breaks; the dispatcher's task goes on."""
    host.servers[-1].alive = False


@pytest.mark.parametrize(
    ("states", "gone", "refusals"),
    [([VmState.RUNNING, VmState.RUNNING, VmState.MIGRATING, VmState.MIGRATING], True, 0), ([], True, 2)],
)
def test_a_lost_session_is_no_lost_migration(host: FakeHost, states: list[VmState], gone: bool, refusals: int) -> None:
    """The VM is watched through a new session until the source has let go of it."""
    host.states.extend(states)

    def end() -> None:
        lose(host)
        host.refusals = refusals
        if not host.states:
            host.vms.clear()

    vm = host.vms[0]
    host.jobs.append(FakeJob(0x80000246, end=end))
    look = vm.get_state

    def last_look() -> FakeJob:
        job = look()
        if gone and not host.states:
            host.vms.clear()
        return job

    if states:
        vm.get_state = last_look  # type: ignore[method-assign]
    assert cookie.domain_uuid(perform(host).cookie) == UUID
    assert len(host.servers) == 2


def test_a_lost_session_with_the_old_state_back_is_for_the_caller(host: FakeHost) -> None:
    """It failed, or has not begun to show: both sides must be looked at."""
    host.jobs.append(FakeJob(0x80000246, end=lambda: lose(host)))
    error = failure(lambda: perform(host))
    assert (error.retry, error.code) == (Retry.VERIFY, "PRL_ERR_WS_DISP_CONNECTION_CLOSED")
    assert host.count("migrate") == 1


def test_a_dispatcher_that_stays_away_is_doubt(host: FakeHost) -> None:
    """After a bounded wait the caller must look, and look again."""

    def end() -> None:
        lose(host)
        host.refusals = 10**6

    host.jobs.append(FakeJob(0x80000246, end=end))
    assert failure(lambda: perform(host)).retry is Retry.VERIFY


def test_a_request_that_was_not_sent_is_sent_again(host: FakeHost) -> None:
    """The SDK proves that the dispatcher never saw it: log in again, ask again."""
    host.fail(0x80000251)
    host.succeed()
    watch = FakeWatch()
    perform(host, watch)
    assert (host.count("migrate"), len(host.servers), watch.retries) == (2, 2, [])


def test_no_session_uuid_is_ever_shown(host: FakeHost, caplog: pytest.LogCaptureFixture) -> None:
    """Not in log records, not in errors, not in what values show of themselves."""
    caplog.set_level(logging.DEBUG)
    texts: list[str] = []
    spoken = f"session {{{SESSION}}} unknown"
    for code in (0x80030001, 0x80000246, 0x80000275, 0x80000521, 0x80000009):
        nested = [Event(0, err_code=signed(0x80000009), err_string=f"for {SESSION.upper()}")]
        for _ in range(QUICK.tries + 1):
            host.jobs.append(FakeJob(code, text=spoken, nested=nested))
        texts.append(repr(failure(lambda: perform(host))))
        host.jobs.clear()
    watch = FakeWatch()
    host.jobs.append(FakeJob(hangs=True, on_cancel=too_late(host, VmState.STOPPED), text=spoken))
    host.jobs[0].steps.append(lambda: setattr(watch, "wish", Stop.CANCEL))
    texts.append(str(failure(lambda: perform(host, watch))))
    driver = host.driver()
    host.vms = [FakeVm(host)]
    begun = driver.begin(MOVE, FakeWatch())
    host.vms.clear()
    driver.prepare(MOVE, begun.xml, begun.cookie, FakeWatch())
    driver.close()
    texts += [record.getMessage() + str(record.exc_text or "") for record in caplog.records]
    everything = "\n".join(texts).lower()
    assert caplog.records
    assert SESSION not in everything
    for session in host.sessions:
        assert session.strip("{}") not in everything
