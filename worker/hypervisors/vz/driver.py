"""The Virtuozzo driver: libvirt's five phases over the SDK.

The whole move happens inside perform, between the two dispatchers; begin and prepare hand out what the
job needs, finish and confirm verify what it did. Nothing here deletes a VM but ``remove``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from worker.errors import HypervisorError, Retry
from worker.hypervisors.base import (
    Begun,
    Domain,
    DomainState,
    Finished,
    HostConfig,
    Measured,
    Move,
    Performed,
    Prepared,
    Watch,
)
from worker.hypervisors.checks import check_migration
from worker.hypervisors.flags import MigrateFlag
from worker.hypervisors.retry import with_retries
from worker.hypervisors.usage import Usage
from worker.hypervisors.vz import cookie as cookies
from worker.hypervisors.vz import definition
from worker.hypervisors.vz import uri as uris
from worker.hypervisors.vz.connection import Connection, Limits, Look, finished
from worker.hypervisors.vz.events import Events
from worker.hypervisors.vz.failure import SdkFailure
from worker.hypervisors.vz.following import follow
from worker.hypervisors.vz.perform import Order, Perform
from worker.hypervisors.vz.sdk import (
    PSL_HIGH_SECURITY,
    PSM_VM_START,
    PVMT_DONT_CREATE_DISK,
    PVMT_DONT_RESUME_VM,
    Server,
    Vm,
    VmState,
)
from worker.hypervisors.vz.states import STEADY, STOPPED
from worker.hypervisors.vz.usage import Measure

log = logging.getLogger(__name__)
Result = TypeVar("Result")


class VzHypervisor:
    """``base.Hypervisor`` for one Virtuozzo host."""

    profile = "vz"

    def __init__(self, host: HostConfig, connect: Callable[[], Server], limits: Limits | None = None) -> None:
        self._host = host
        self._limits = limits or Limits()
        self._events = Events()
        self._connection = Connection(host.name, connect, self._events.handle, self._limits)
        self._usage = Measure(self._limits.answer)
        self._performing: dict[str, Perform] = {}

    def open(self) -> None:
        """See ``base.Hypervisor``."""
        self._connection.session()

    def close(self) -> None:
        """See ``base.Hypervisor``."""
        self._connection.close()

    def domains(self) -> list[Domain]:
        """See ``base.Hypervisor``."""
        return self._connection.domains()

    def inspect(self, uuid: str) -> Domain:
        """See ``base.Hypervisor``."""
        return self._connection.look(uuid).domain

    def usage(self) -> Usage:
        """See ``base.Hypervisor``. The dispatcher is asked for each VM, all at once."""
        return self._connection.run(self._usage.look)

    def begin(self, move: Move, watch: Watch) -> Begun:
        """See ``base.Hypervisor``. Raises ``Rejected`` too, for flags or parameters that vz refuses."""
        check_migration(self.profile, move.flags, move.params, DomainState.RUNNING)
        return with_retries(self._host.retry, watch, lambda: self._begin(move))

    def prepare(self, move: Move, xml: str, cookie: bytes, watch: Watch) -> Prepared:
        """See ``base.Hypervisor``. Nothing is allocated: begin's cookie is not looked at (as in libvirt)."""
        given = move.params.get("migrate_uri")
        uri = uris.compose(self._host.address) if given is None else str(given)
        arriving = definition.read(xml)
        if arriving.uuid != move.uuid:
            raise _error(f"the definition is of {arriving.uuid}, not of {move.uuid}", "VIR_ERR_XML_ERROR")
        name = str(move.params.get("destination_name") or arriving.name)

        def prepare() -> Prepared:
            self._require_free(move.uuid, name)
            return Prepared(uri, cookies.from_prepare(cookies.plain(self._connection.session().uuid)))

        return with_retries(self._host.retry, watch, prepare)

    def perform(self, move: Move, xml: str, uri: str, cookie: bytes, watch: Watch) -> Performed:
        """See ``base.Hypervisor``. libvirt's order: cookie, domain, URI, SDK."""
        session_uuid = cookies.session_uuid(cookie)
        state = with_retries(self._host.retry, watch, lambda: self._steady(move).domain.state)
        host, port = uris.parse(uri)
        flags = PSL_HIGH_SECURITY | PVMT_DONT_CREATE_DISK
        if move.flags & MigrateFlag.PAUSED:
            flags |= PVMT_DONT_RESUME_VM
        name = str(move.params.get("destination_name") or "")
        order = Order(move.uuid, host, port, cookies.braced(session_uuid), name, flags)
        running = Perform(
            self._connection,
            self._events,
            order,
            state,
            watch,
            self._limits,
            self._host.poll_seconds,
            move.deadline_seconds,
        )
        self._performing[move.uuid] = running
        try:
            return running.run(self._host.retry)
        finally:
            del self._performing[move.uuid]

    def finish(self, move: Move, cookie: bytes, cancelled: bool, watch: Watch) -> Finished:
        """See ``base.Hypervisor``. Without a cookie (recovery) the domain is the one that was to move."""
        if cancelled:
            look = self._retried(watch, lambda: self._after_cleaning(move.uuid))
            return Finished(look.domain)
        uuid = cookies.domain_uuid(cookie) if cookie else move.uuid
        if uuid != move.uuid:
            raise _error(f"perform's cookie is of {uuid}, not of {move.uuid}", "VIR_ERR_INTERNAL_ERROR")
        return Finished(self._retried(watch, lambda: self._arrived(move)))

    def confirm(self, move: Move, cookie: bytes, cancelled: bool, watch: Watch) -> Domain:
        """See ``base.Hypervisor``. The dispatcher has let go, or restored, by itself: this only looks."""
        if cancelled:
            return self._retried(watch, lambda: self.inspect(move.uuid))
        return self._retried(watch, lambda: self._gone(move.uuid))

    def follow(self, move: Move, watch: Watch) -> Domain:
        """See ``base.Hypervisor``. The dispatcher tells every session how far it is."""
        return follow(self._connection, self._events, move, watch, self._limits, self._host.poll_seconds)

    def release(self, move: Move) -> Domain:
        """See ``base.Hypervisor``. The dispatcher lets go by itself; this ends what a crash has left."""
        look = self._connection.look(move.uuid)
        if look.vm is not None and look.state is not VmState.PAUSED and look.state not in STOPPED:
            raise _error(
                f"domain {move.uuid} is {look.domain.state} on {self._host.name}: only a copy that stands still is "
                "taken away; look at both hosts",
                "VIR_ERR_OPERATION_INVALID",
                Retry.VERIFY,
                Retry.OPERATOR,
            )
        try:
            self.remove(move.uuid)
        except SdkFailure:
            if self.inspect(move.uuid).state is not DomainState.ABSENT:
                raise
        return self.inspect(move.uuid)

    def measured(self, move: Move) -> Measured:
        """See ``base.Hypervisor``. The dispatcher tells all that it measures when perform ends."""
        return Measured()

    def abort(self, uuid: str) -> None:
        """See ``base.Hypervisor``."""
        running = self._performing.get(uuid)
        if running is not None:
            running.abort()
            return
        look = self._connection.look(uuid)
        if look.vm is None:
            return
        shown = look.state is VmState.MIGRATING
        try:
            finished(look.vm.migrate_cancel(), self._limits.cancel if shown else self._limits.silence)
        except SdkFailure as failure:
            # no migration runs: the dispatcher never answers, or says that the task is gone
            log.info("nothing to abort for %s: %s", uuid, failure)

    def resume(self, uuid: str) -> Domain:
        """See ``base.Hypervisor``. A domain that runs already is left alone."""
        look = self._connection.look(uuid)
        if look.state is VmState.RUNNING:
            return look.domain
        if look.vm is None or look.state is not VmState.PAUSED:
            raise _error(
                f"domain {uuid} is {look.domain.state} on {self._host.name}, not paused: it cannot be resumed",
                "VIR_ERR_OPERATION_INVALID",
                Retry.OPERATOR,
            )
        self._connection.answer(look.vm.start_ex(PSM_VM_START))
        return self._until(uuid, lambda look: look.state is VmState.RUNNING).domain

    def remove(self, uuid: str) -> None:
        """See ``base.Hypervisor``. Only the registration goes: the files may be shared with the living copy."""
        look = self._connection.look(uuid)
        if look.vm is None:
            return
        if look.state is VmState.MIGRATING:
            raise _error(
                f"domain {uuid} is migrating on {self._host.name}: abort that first",
                "PRL_ERR_VM_LOCKED_FOR_MIGRATE",
                Retry.VERIFY,
            )
        if look.state not in STOPPED:
            self._connection.answer(look.vm.stop_ex(0, 0))
            look = self._until(uuid, lambda look: look.state in STOPPED or look.vm is None)
        if look.vm is not None:
            self._connection.answer(look.vm.unregister())

    def _begin(self, move: Move) -> Begun:
        look = self._steady(move)
        assert look.vm is not None  # noqa: S101  (steady means that it is there)
        session = self._connection.session()
        return Begun(
            xml=definition.write(look.vm),
            cookie=cookies.from_begin(cookies.plain(session.uuid), move.uuid, look.vm.name),
            paused=look.state is VmState.PAUSED,
        )

    def _steady(self, move: Move) -> Look:
        """A look at a VM that can start to migrate; raises ``HypervisorError`` for any other."""
        look = self._connection.look(move.uuid)
        if look.vm is None:
            raise _error(
                f"no domain with matching uuid '{move.uuid}' ({move.domain}) on {self._host.name}",
                "VIR_ERR_NO_DOMAIN",
            )
        if look.state in STEADY:
            return look
        if look.state is VmState.MIGRATING:
            raise _error(
                f"domain {move.domain} is migrating from {self._host.name} already",
                "PRL_ERR_VM_LOCKED_FOR_MIGRATE",
                Retry.VERIFY,
                Retry.OPERATOR,
            )
        if look.state in STOPPED:
            raise _error(f"domain {move.domain} is not running on {self._host.name}", "VIR_ERR_OPERATION_INVALID")
        raise _error(
            f"domain {move.domain} is just {look.state.name.lower()} on {self._host.name}",
            "VIR_ERR_OPERATION_INVALID",
            Retry.TRANSIENT,
            Retry.OPERATOR,
        )

    def _require_free(self, uuid: str, name: str) -> None:
        """Neither the uuid nor the name may be registered here."""
        look = self._connection.look(uuid)
        if look.vm is not None:
            raise _error(
                f"a domain with uuid {uuid} is registered on {self._host.name} already "
                f"('{look.domain.name}', {look.domain.state}): remove it there, or see whether it has moved",
                "PRL_ERR_VM_ALREADY_REGISTERED_VM_UUID",
            )
        if (other := self._connection.name_taken_by(name)) is not None:
            raise _error(
                f"the name '{name}' is taken on {self._host.name} by domain {other}: choose another destination name",
                "PRL_ERR_VM_ALREADY_REGISTERED_VM_NAME",
            )

    def _after_cleaning(self, uuid: str) -> Look:
        """What is left here once the dispatcher has taken back what it received."""
        cleaning = (DomainState.MIGRATING, DomainState.UNKNOWN)
        look = self._until(uuid, lambda look: look.domain.state not in cleaning)
        if look.domain.state is not DomainState.SHUTOFF:
            return look
        # Stopped and still registered: about to go, or what a dispatcher that was killed has left for good.
        gone = (
            self._limits.remains,
            self._host.poll_seconds,
            lambda look: look.domain.state is not DomainState.SHUTOFF,
        )
        return self._connection.look_until(uuid, *gone)

    def _arrived(self, move: Move) -> Domain:
        look = self._until(move.uuid, lambda look: look.state in STEADY or look.vm is None)
        if look.vm is None or look.state not in STEADY:
            raise _error(
                f"{self._host.name} shows the domain {look.domain.state} after its migration",
                "PRL_ERR_VM_UUID_NOT_FOUND" if look.vm is None else "VIR_ERR_OPERATION_INVALID",
                Retry.VERIFY,
                Retry.OPERATOR,
            )
        if look.domain.name != move.destination_name:
            log.warning("%s arrived as '%s', not as asked for", move.uuid, look.domain.name)
        if move.flags & MigrateFlag.PAUSED and look.state is VmState.RUNNING:
            return self._pause(move.uuid, look.vm)
        return look.domain

    def _pause(self, uuid: str, vm: Vm) -> Domain:
        """Today's dispatcher lets the guest run although PVMT_DONT_RESUME_VM was set."""
        log.info("%s: %s runs although it was to arrive paused; pausing it", self._host.name, uuid)
        self._connection.answer(vm.pause(False))
        look = self._until(uuid, lambda look: look.state is not VmState.RUNNING and look.state in STEADY)
        if look.state is not VmState.PAUSED:
            raise _error(
                f"domain {uuid} was to arrive paused, but {self._host.name} shows it {look.domain.state}",
                "VIR_ERR_OPERATION_FAILED",
                Retry.VERIFY,
                Retry.OPERATOR,
            )
        return look.domain

    def _gone(self, uuid: str) -> Domain:
        look = self._until(uuid, lambda look: look.vm is None)
        if look.vm is None:
            return look.domain
        if look.state in STOPPED:
            raise _error(
                f"source stub left: {uuid} runs on the destination, and a stopped copy is still registered "
                f"on {self._host.name}; unregister it there",
                "source-stub",
                Retry.OPERATOR,
            )
        raise _error(
            f"{self._host.name} still shows the domain {look.domain.state} after its migration",
            "source-kept",
            Retry.VERIFY,
            Retry.OPERATOR,
        )

    def _until(self, uuid: str, good: Callable[[Look], bool]) -> Look:
        return self._connection.look_until(uuid, self._limits.settle, self._host.poll_seconds, good)

    def _retried(self, watch: Watch, action: Callable[[], Result]) -> Result:
        """For the phases after perform: a wish to stop comes too late for them."""
        return with_retries(self._host.retry, watch, action, stoppable=False)


def _error(message: str, code: str, retry: Retry = Retry.PERMANENT, after: Retry | None = None) -> HypervisorError:
    untouched = retry in (Retry.PERMANENT, Retry.TRANSIENT)
    return HypervisorError(message, code=code, retry=retry, after=after, untouched=untouched)
