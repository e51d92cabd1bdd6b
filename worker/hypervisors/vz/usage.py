"""What a Virtuozzo host's VMs use, as the dispatcher tells it (``PrlVm_GetPerfStats``)."""

from __future__ import annotations

import re
import time

from worker.hypervisors.usage import MIB, GuestUsage, Usage, occupied
from worker.hypervisors.vz.connection import PGVLF_VMS, Session, finished, is_absent
from worker.hypervisors.vz.cookie import plain
from worker.hypervisors.vz.failure import SdkFailure
from worker.hypervisors.vz.sdk import Event, Job, SrvConfig, Vm
from worker.hypervisors.vz.states import STOPPED

COUNTERS = "guest.*"
BALLOON = "guest.ram.balloon_actual"
VCPU_TIME = re.compile(r"guest\.vcpu\d+\.time")


class Measure:
    """Looks at what VMs use; what the host itself has is asked for once in each session."""

    def __init__(self, answer_seconds: float) -> None:
        self._seconds = answer_seconds
        self._host: tuple[Session, SrvConfig] | None = None

    def look(self, session: Session) -> Usage:
        """One look. Raises ``SdkFailure``, ``SdkError``."""
        host = self._srv_config(session)
        vms = self._answer(session.server.get_vm_list_ex(PGVLF_VMS)).get_vms()
        states = [(vm, vm.get_state()) for vm in vms]
        alive = [vm for vm, job in states if self._is_alive(job)]
        at = time.monotonic()
        asked = [(vm, vm.get_perf_stats(COUNTERS)) for vm in alive]
        guests = (self._guest(vm, job) for vm, job in asked)
        return Usage(at, host.cpu_count, host.host_ram_mib * MIB, tuple(guest for guest in guests if guest))

    def _srv_config(self, session: Session) -> SrvConfig:
        if self._host is None or self._host[0] is not session:
            self._host = session, self._answer(session.server.get_srv_config()).get_srv_config()
        return self._host[1]

    def _is_alive(self, job: Job) -> bool:
        try:
            return self._answer(job).get_vm_state() not in STOPPED
        except SdkFailure as failure:
            if not is_absent(failure):
                raise
        return False

    def _guest(self, vm: Vm, job: Job) -> GuestUsage | None:
        try:
            told = self._answer(job).get_perf_stats()
        except SdkFailure as failure:
            if not is_absent(failure):
                raise
            return None
        memory = told.params.get(BALLOON)
        mib = memory if isinstance(memory, int) and memory > 0 else vm.ram_mib
        return GuestUsage(plain(vm.uuid), _cpu_seconds(told), occupied(mib * MIB))

    def _answer(self, job: Job) -> Job:
        return finished(job, self._seconds)


def _cpu_seconds(told: Event) -> float | None:
    times = [value for name, value in told.params.items() if VCPU_TIME.fullmatch(name)]
    return sum(time for time in times if isinstance(time, int)) / 1e9 if times else None
