"""What a look at a Virtuozzo host's guests makes of the dispatcher's answers."""

from __future__ import annotations

from vz_fake import UUID, FakeHost

from worker.hypervisors.usage import MIB, occupied
from worker.hypervisors.vz.sdk import VmState


def test_vz_sums_the_time_of_all_vcpus_and_takes_the_balloon() -> None:
    """CPU time is that of all virtual CPUs, nanoseconds as the SDK counts them; memory is what the balloon leaves."""
    host = FakeHost(counters={"guest.vcpu0.time": 2_000_000_000, "guest.vcpu1.time": 500_000_000})
    host.add()
    driver = host.driver()
    (guest,) = driver.usage().guests
    assert (guest.uuid, guest.cpu_seconds, guest.memory_bytes) == (UUID, 2.5, occupied(1024 * MIB))
    host.counters["guest.ram.balloon_actual"] = 512
    assert driver.usage().guests[0].memory_bytes == occupied(512 * MIB)


def test_vz_asks_for_the_host_once_in_a_session() -> None:
    """What a host has is asked for once, and again after the connection was lost."""
    host = FakeHost()
    driver = host.driver()
    look_one, look_two = driver.usage(), driver.usage()
    assert (look_one.cpus, look_one.memory_bytes) == (look_two.cpus, look_two.memory_bytes) == (8, 32768 * MIB)
    assert host.count("srv_config") == 1
    host.servers[-1].alive = False
    driver.usage()
    assert host.count("srv_config") == 2


def test_vz_without_counters_still_tells_the_memory() -> None:
    """A dispatcher that tells no CPU time of a VM leaves it unknown, and does not call it idle."""
    host = FakeHost()
    host.add(VmState.PAUSED)
    (guest,) = host.driver().usage().guests
    assert (guest.cpu_seconds, guest.memory_bytes) == (None, occupied(1024 * MIB))
