"""The logged-in connection to one dispatcher, and looking at its virtual machines."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from worker.errors import HypervisorError
from worker.hypervisors.base import Domain, DomainState
from worker.hypervisors.vz import codes
from worker.hypervisors.vz.cookie import braced, plain
from worker.hypervisors.vz.failure import SdkFailure, from_code, from_job, from_sdk
from worker.hypervisors.vz.sdk import (
    PACF_NON_INTERACTIVE_MODE,
    PRL_ERR_TIMEOUT,
    PSL_HIGH_SECURITY,
    Event,
    Job,
    JobStatus,
    SdkError,
    SearchFlag,
    Server,
    Vm,
    VmState,
    signed,
)
from worker.hypervisors.vz.states import domain_state

log = logging.getLogger(__name__)
Result = TypeVar("Result")

PGVLF_VMS = 0x800
_NOT_SENT = (codes.NOT_CONNECTED, 0x80000059)
"""The dispatcher did nothing for us: not connected, or it knows our session no more."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long the driver waits, in seconds."""

    answer: float = 60.0
    """For any short job."""
    cancel: float = 10.0
    """For the reply to a cancel; one for a migration that does not run is never answered."""
    silence: float = 2.0
    """For that reply where the VM does not even show as migrating."""
    stop: float = 180.0
    """For the end of a migration that was cancelled (a connect alone may take 60 s to notice)."""
    settle: float = 30.0
    """For a host to come to rest after the end of a migration."""
    remains: float = 3.0
    """For a stopped copy to go from the destination of a failed migration."""


@dataclass(frozen=True, slots=True)
class Session:
    """A login. Its uuid is a bearer credential: never shown, never logged."""

    server: Server = field(repr=False)
    uuid: str = field(repr=False)


class Look(NamedTuple):
    """One fresh look at a VM; ``vm`` is ``None`` where there is none."""

    vm: Vm | None
    state: VmState
    domain: Domain


def finished(job: Job, seconds: float, beat: Callable[[], None] | None = None) -> Job:
    """Wait for a short job, with a heartbeat each second.

    Raises ``SdkFailure`` where it failed or did not end in time.
    """
    until = time.monotonic() + seconds
    while job.wait(_slice(until)) == PRL_ERR_TIMEOUT:
        if time.monotonic() >= until:
            text = f"the dispatcher did not answer in {seconds:g} s"
            raise from_code(codes.TIMEOUT, Event(0, err_string=text))
        if beat is not None:
            beat()
    if job.get_ret_code() < 0:
        raise from_job(job)
    return job


def _slice(until: float) -> int:
    return int(min(max(until - time.monotonic(), 0), 1) * 1000) + 1


class Connection:
    """Keeps one login to a dispatcher, made anew when it is found lost."""

    def __init__(
        self, host: str, connect: Callable[[], Server], handler: Callable[[Event], None], limits: Limits
    ) -> None:
        self._host = host
        self._connect = connect
        self._handler = handler
        self._limits = limits
        self._session: Session | None = None
        self._lock = threading.Lock()

    def session(self) -> Session:
        """The live login; logs in where there is none. Raises ``HypervisorError``."""
        with self._lock:
            if self._session is not None and not self._session.server.is_connected():
                log.warning("%s: the connection to the dispatcher was lost", self._host)
                self._discard()
            if self._session is None:
                self._session = self._login()
            return self._session

    def close(self) -> None:
        """Log off and disconnect; never raises."""
        with self._lock:
            self._discard(log_off=True)

    def run(self, action: Callable[[Session], Result], *, repeatable: bool = True) -> Result:
        """Do something with the login; once more with a new one where the old one turns out lost.

        Not ``repeatable``: only where the SDK proves that nothing was sent.
        """
        session = self.session()
        try:
            return self._translated(action, session)
        except SdkFailure as failure:
            lost = (*_NOT_SENT, codes.CONNECTION_CLOSED) if repeatable else _NOT_SENT
            if failure.ret_code not in lost:
                raise
        log.warning("%s: the session was lost; logging in again", self._host)
        with self._lock:
            if self._session is session:
                self._discard()
        return self._translated(action, self.session())

    def answer(self, job: Job) -> Job:
        """Wait for a short job; raises ``SdkFailure``."""
        return finished(job, self._limits.answer)

    def domains(self) -> list[Domain]:
        """All VMs of this host; one that goes away meanwhile is left out."""
        return self.run(self._list)

    def look(self, uuid: str) -> Look:
        """A fresh look at one VM."""
        return self.run(lambda session: self.look_in(session, uuid))

    def look_in(self, session: Session, uuid: str) -> Look:
        """A fresh look at one VM through this login: the handle is good only there."""
        try:
            job = self.answer(session.server.get_vm_config(braced(uuid), SearchFlag.BY_UUID))
            vm = job.get_vm()
            state = self.answer(vm.get_state()).get_vm_state()
        except SdkFailure as failure:
            if not is_absent(failure):
                raise
            return Look(None, VmState.UNKNOWN, Domain("", uuid, DomainState.ABSENT))
        return Look(vm, state, _domain(vm, state))

    def name_taken_by(self, name: str) -> str | None:
        """The uuid of the VM that has this name here."""

        def search(session: Session) -> str | None:
            try:
                return plain(self.answer(session.server.get_vm_config(name, SearchFlag.BY_NAME)).get_vm().uuid)
            except SdkFailure as failure:
                if is_absent(failure):
                    return None
                raise

        return self.run(search)

    def look_until(
        self,
        uuid: str,
        seconds: float,
        poll: float,
        good: Callable[[Look], bool],
        beat: Callable[[], None] | None = None,
    ) -> Look:
        """Look again and again until ``good`` or the time is over; the last look either way."""
        until = time.monotonic() + seconds
        while not good(look := self.look(uuid)) and time.monotonic() < until:
            if beat is not None:
                beat()
            time.sleep(min(poll, max(until - time.monotonic(), 0)))
        return look

    def _list(self, session: Session) -> list[Domain]:
        vms = self.answer(session.server.get_vm_list_ex(PGVLF_VMS)).get_vms()
        asked = [(vm, vm.get_state()) for vm in vms]
        domains = []
        for vm, job in asked:
            try:
                domains.append(_domain(vm, self.answer(job).get_vm_state()))
            except SdkFailure as failure:
                if not is_absent(failure):
                    raise
        return domains

    def _translated(self, action: Callable[[Session], Result], session: Session) -> Result:
        try:
            return action(session)
        except SdkError as error:
            raise from_sdk(error) from None

    def _login(self) -> Session:
        try:
            server = self._connect()
        except SdkError as error:
            raise from_sdk(error) from None
        except OSError as error:
            raise from_code(0x80000249, Event(0, err_string=str(error))) from error
        try:
            job = server.login_local_ex("", 0, PSL_HIGH_SECURITY, PACF_NON_INTERACTIVE_MODE)
            session = Session(server, self.answer(job).get_session_uuid())
            server.reg_event_handler(self._handler)
        except (SdkError, HypervisorError) as error:
            server.close()
            raise from_sdk(error) if isinstance(error, SdkError) else error from None
        log.info("%s: logged in to the dispatcher", self._host)
        return session

    def _discard(self, *, log_off: bool = False) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        try:
            session.server.unreg_event_handler(self._handler)
            if log_off:
                session.server.logoff().wait(int(self._limits.cancel * 1000))
            session.server.close()
        except (SdkError, OSError):
            log.debug("%s: closing the connection failed", self._host, exc_info=True)


def was_not_sent(job: Job) -> bool:
    """Whether the SDK never sent this job's request: it is finished already and says so."""
    return job.get_status() is JobStatus.FINISHED and job.get_ret_code() in tuple(signed(code) for code in _NOT_SENT)


def is_absent(failure: SdkFailure) -> bool:
    """Whether the dispatcher says that there is no such VM."""
    return failure.ret_code in (0x80000105, 0x80000283, 0x80000406)


def _domain(vm: Vm, state: VmState) -> Domain:
    return Domain(vm.name, plain(vm.uuid), domain_state(state), memory_bytes=vm.ram_mib * 2**20)
