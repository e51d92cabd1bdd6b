"""The steps of a migration as the source dispatcher takes them; numbers as in vz-sdk 3.2."""

from __future__ import annotations

import asyncio
import math

from worker.hypervisors.simulator.codes import Code, TaskError
from worker.hypervisors.simulator.config import DEFAULT_PORT
from worker.hypervisors.simulator.directory import Guest
from worker.hypervisors.simulator.link import Link, LinkLost, Refused
from worker.hypervisors.simulator.node import Node, Session
from worker.hypervisors.simulator.precopy import PreCopy, percent
from worker.hypervisors.simulator.source import Outgoing
from worker.hypervisors.simulator.target import AUTHORIZE, CARRIED, CHECK, FINISH, START, STEPS, SWITCH
from worker.hypervisors.simulator.wire import Message
from worker.hypervisors.vz.sdk import PVMT_DONT_CREATE_DISK, PVMT_UNCOMPRESSED, EventType

CONNECT_TIMEOUT, REPLY_TIMEOUT = 60.0, 600.0
"""Simulated seconds (``ConnectionTimeout`` and ``SendReceiveTimeout`` of the dispatcher)."""
CONNECT, CHECKING, STARTING, COPY_FILES, FINISHING, DELETING = 0.2, 0.3, 0.5, 1.0, 0.3, 0.3
"""Simulated seconds that these steps take on an idle host."""
PROGRESS_TICK = 0.1
SHORTEST_TICK = 0.02
"""Real seconds: looking more often than this would only keep the machine busy."""
_BEFORE_FINISH = ("cut-link", "crash", "delay", "drop-session")
_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


class Migration(Outgoing):
    """One virtual machine on its way to another host."""

    def __init__(self, node: Node, session: Session, message: Message, guest: Guest) -> None:
        super().__init__(node, session, message, guest)
        address = str(message["host"])
        self._target = node.name if address in _LOCAL_NAMES else node.config.resolve(address)
        self._percent = -1
        self._measured: dict[str, int] = {}

    async def _migrate(self) -> None:
        if self.node.clock.instant and not self.node.faults:
            await self._at_once()
        else:
            await self._step_by_step()

    async def _step_by_step(self) -> None:
        await self._enter(1)
        self._check_request()
        await self._enter(2)
        await self._lock()
        await self._enter(3)
        self._check_static()
        await self._enter(4)
        await self._connect()
        await self._ask(AUTHORIZE)
        await self._enter(5)
        await self.node.clock.sleep(CHECKING)
        if self.guest.snapshots:
            raise TaskError(Code.VM_MIGRATE_SNAPSHOT_DETECTED)
        await self._ask(CHECK)
        await self._enter(6)
        await self._enter(7)
        self._show_migrating()
        await self._enter(8)
        await self.node.clock.sleep(STARTING)
        await self._ask(START)
        await self._enter(9)
        await self._copy_files()
        if self.old_state == "stopped":
            await self._define()
        else:
            await self._switch_over(await self._copy_memory())
        await self._finish()
        await self._let_go()

    async def _at_once(self) -> None:
        """Instant mode: the same steps and events, the target's part in one message over a kept link."""
        node, guest = self.node, self.guest
        self._check_request()
        await self._lock()
        self._check_static()
        if guest.snapshots:
            raise TaskError(Code.VM_MIGRATE_SNAPSHOT_DETECTED)
        idle = node.links.setdefault(self._target or "", [])
        self._link = idle.pop() if idle else None
        if self._link is None or not self._link.is_open:
            await self._connect()
        copy = self._pre_copy()
        copy.run_out(self._bandwidth())
        self._measure(copy)
        self._show_migrating()
        self._is_interruptible = False
        guest.enter("paused" if guest.state == "running" else guest.state)
        node.directory.save(guest)
        self._is_switched = True
        try:
            await self._ask(*STEPS)
        except Refused as refusal:
            self._is_switched = refusal.step > SWITCH
            raise
        guest.enter("stopped")
        node.migrating.discard(guest.uuid)
        node.emit_state(guest)
        self._progress(100)
        self._leave()
        if self._link is not None:
            self._link.on_lost = None
            idle.append(self._link)

    def _check_request(self) -> None:
        if self.node.stopping:
            raise TaskError(Code.DISP_SHUTDOWN_IN_PROCESS)
        if self._target == self.node.name:
            raise TaskError(Code.VM_MIGRATE_TO_THE_SAME_NODE)

    async def _lock(self) -> None:
        await self.node.locks.acquire(self.guest.uuid, "migrate")
        self._is_locked = True
        if self.node.directory.get(self.guest.uuid) is None:
            raise TaskError(Code.VM_UUID_NOT_FOUND)
        self.old_state = self.guest.state

    def _check_static(self) -> None:
        causes = []
        if self.guest.linked_clone:
            causes.append(Code.UNIMPLEMENTED)
        if self.guest.remote_device:
            causes.append(Code.VM_MIGRATE_REMOTE_DEVICE_IS_ATTACHED)
        if causes:
            raise TaskError(Code.VM_MIGRATE_CHECKING_PRECONDITIONS_FAILED, nested=causes)

    async def _connect(self) -> None:
        await self.node.clock.sleep(CONNECT)
        if self._target is None:
            raise TaskError(Code.CANT_RESOLVE_HOSTNAME)
        path = self.node.config.socket_path(self._target)
        port = self._message["port"] or DEFAULT_PORT
        if port != self.node.config.host(self._target).port:
            raise TaskError(Code.CANT_CONNECT_TO_DISPATCHER_ITERATIVELY)
        self._link = await Link.open(path, self.node.clock.timeout(CONNECT_TIMEOUT))
        self._link.on_lost = self._interrupt

    async def _ask(self, *steps: int) -> None:
        """Have the target do its part of these steps."""
        if self._link is None:
            raise LinkLost
        guest, message = self.guest, self._message
        vm = {key: getattr(guest, key) for key in CARRIED}
        vm |= {"name": message["name"] or guest.name, "home": message["home"] or guest.home}
        request: Message = {
            "op": "steps",
            "id": self.step,
            "steps": steps,
            "session": message["session"],
            "level": max(self._flags & 3, self.node.host.min_security_level),
            "flags": self._flags,
            "shared": self._is_shared,
            "vm": vm,
            "state": self.old_state,
            "boot_id": guest.boot_id,
            "boots": guest.boots,
            "ran": guest.ran,
            "measured": self._measured,
        }
        await self._link.request(request, self.node.clock.timeout(REPLY_TIMEOUT))

    @property
    def _is_shared(self) -> bool:
        target = self.node.config.hosts.get(self._target or "")
        return self.guest.shared and target is not None and target.storage == self.node.host.storage

    def _show_migrating(self) -> None:
        self.node.migrating.add(self.guest.uuid)
        self._is_shown = True
        self.node.emit_state(self.guest)
        self.node.emit(EventType.VM_MIGRATE_STARTED, self.guest.uuid, {"migrate_is_source": "true"})

    def _progress(self, value: int) -> None:
        if value != self._percent:
            self._percent = value
            params = {"progress_changed": value}
            self.node.emit(EventType.VM_MIGRATE_PROGRESS_CHANGED, self.guest.uuid, params)

    async def _copy_files(self) -> None:
        """First sweep: the bundle; disk images only of a stopped VM, and only where they are not shared."""
        clock, loop = self.node.clock, asyncio.get_running_loop()
        total = COPY_FILES
        if self.old_state == "stopped" and not self._is_shared:
            total += self.guest.disk_gib * 2**30 / self._bandwidth()
        begin = loop.time()
        while not clock.instant and (left := total - (loop.time() - begin) * clock.scale) > 0:
            self._progress(percent(left, total))
            await self._tick()
        self._progress(100)

    async def _copy_memory(self) -> PreCopy:
        """Second sweep: until the guest can be stopped. Faults of step 10 strike half way."""
        if not self._is_shared and self._flags & PVMT_DONT_CREATE_DISK:
            await self._enter(10)
            raise TaskError(Code.OPERATION_FAILED, "A disk image does not exist on the target.")
        clock, loop, copy = self.node.clock, asyncio.get_running_loop(), self._pre_copy()
        if clock.instant:
            copy.run_out(self._bandwidth())
        self.step, is_entered, last = 10, False, loop.time()
        with self.node.stream():
            while not copy.converged:
                self._progress(copy.percent())
                await self._tick()
                now = loop.time()
                copy.advance((now - last) * clock.scale, self._bandwidth())
                last = now
                if not is_entered and (copy.passes or copy.remaining < copy.memory / 2):
                    is_entered = True
                    await self._enter(10)
                    last = loop.time()
            if not is_entered:
                await self._enter(10)
            self._measure(copy)
        return copy

    async def _switch_over(self, copy: PreCopy) -> None:
        """The guest stands still, its last pages go over, and it runs on the target."""
        node, guest = self.node, self.guest
        self._is_interruptible = False
        guest.enter("paused")
        node.directory.save(guest)
        node.migrating.discard(guest.uuid)
        node.emit_state(guest)
        await node.clock.sleep(copy.downtime(self._bandwidth()))
        try:
            await self._ask(SWITCH)
        except Refused:
            raise
        except TaskError:  # nobody knows whether it runs on the target: it must not run here
            self._is_switched = True
            raise
        self._is_switched = True
        guest.enter("stopped")
        node.directory.save(guest)
        node.emit_state(guest)
        self._progress(100)

    async def _define(self) -> None:
        """A stopped virtual machine is only defined on the target."""
        await self._enter(10)
        self._is_interruptible = False
        await self._ask(SWITCH)
        self._is_switched = True

    async def _finish(self) -> None:
        """From the switch-over on a cancel stops nothing any more; it only spoils the answer."""
        self.step = 11
        faults = self.node.faults.at_step("source", 11, self.guest.name)
        for fault in faults:
            if fault.kind in _BEFORE_FINISH:
                await self._suffer(fault)
        await self._ask(FINISH)
        self._is_interruptible = True
        for fault in faults:
            if fault.kind not in _BEFORE_FINISH:
                await self._suffer(fault)
        await self.node.clock.sleep(FINISHING)
        if self.is_cancelled:
            raise TaskError(Code.OPERATION_WAS_CANCELED)
        self._is_interruptible = False

    async def _let_go(self) -> None:
        """The source forgets the virtual machine; failing to is only a message to the caller."""
        node, guest = self.node, self.guest
        if self._link is not None:
            self._link.abort()
        node.migrating.discard(guest.uuid)
        try:
            await self._enter(12)
        except TaskError as warning:
            node.emit(EventType.VM_MIGRATE_FINISHED, guest.uuid, self._measured)
            node.emit(EventType.VM_MESSAGE, guest.uuid, code=warning.code, text=warning.text, only=self.session)
            return
        await node.clock.sleep(DELETING)
        self._leave()

    def _leave(self) -> None:
        node, uuid = self.node, self.guest.uuid
        node.emit(EventType.VM_MIGRATE_FINISHED, uuid, self._measured)
        node.emit(EventType.VM_CONFIG_CHANGED, uuid)
        node.directory.remove(uuid)
        node.emit(EventType.VM_UNREGISTERED if self._is_shared else EventType.VM_DELETED, uuid)

    async def _tick(self) -> None:
        await asyncio.sleep(max(PROGRESS_TICK / self.node.clock.scale, SHORTEST_TICK))

    def _pre_copy(self) -> PreCopy:
        dirty_rate = self.guest.dirty_mib_per_second if self.old_state == "running" else 0.0
        return PreCopy(self.guest.memory_mib * 2**20, dirty_rate * 2**20, self.node.config.auto_converge)

    @property
    def _ratio(self) -> float:
        return 1.0 if self._flags & PVMT_UNCOMPRESSED else self.node.config.compression_ratio

    def _bandwidth(self) -> float:
        """Bytes of guest memory per second that go over now."""
        return self.node.bandwidth() * self._ratio

    def _measure(self, copy: PreCopy) -> None:
        """What MIGRATE_FINISHED tells here; today's dispatcher only writes the downtime into its log.

        In real milliseconds, as whoever looks on measures it.
        """
        downtime = copy.downtime(self._bandwidth()) if self.old_state == "running" else 0.0
        self._measured = {
            "downtime_ms": math.ceil(self.node.clock.real(downtime) * 1000),
            "transferred_bytes": round((copy.sent + copy.remaining) / self._ratio),
        }
