"""What a host tells of its own capacity and of what its guests use, for every kind of hypervisor."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from contract_pairs import Pair, until

from worker.errors import RelayError
from worker.hypervisors.base import DomainState, Hypervisor, Phase, Stop
from worker.hypervisors.usage import MIB, GuestUsage


def used(host: Hypervisor, uuid: str) -> GuestUsage | None:
    """What one guest uses of a host, where it is there."""
    return next((guest for guest in host.usage().guests if guest.uuid == uuid), None)


def seconds(host: Hypervisor, uuid: str) -> float:
    """Its CPU time, where it is told."""
    guest = used(host, uuid)
    return (guest.cpu_seconds if guest else None) or 0.0


def test_a_host_tells_what_it_has_and_what_its_guests_use(pair: Pair) -> None:
    """CPUs and memory of the host; of a running guest its CPU time, which grows, and its memory with the overhead."""
    uuid = pair.guests.start()
    look = pair.source.usage()
    assert look.cpus >= 1
    memory = next(domain.memory_bytes for domain in pair.source.domains() if domain.uuid == uuid)
    assert look.memory_bytes > memory > 0
    guest = used(pair.source, uuid)
    assert guest is not None
    assert memory < guest.memory_bytes < memory * 1.01 + 100 * MIB
    before = seconds(pair.source, uuid)
    until(lambda: seconds(pair.source, uuid) > before, "CPU time")
    assert pair.source.usage().at > look.at


def test_only_guests_that_occupy_a_host_are_told(pair: Pair) -> None:
    """A paused guest keeps its memory and uses no more CPU; one that is switched off is not there."""
    paused, off = pair.guests.start(), pair.guests.start()
    pair.guests.enter(paused, DomainState.PAUSED)
    pair.guests.enter(off, DomainState.SHUTOFF)
    guest = used(pair.source, paused)
    assert guest is not None
    assert guest.memory_bytes > 0
    assert used(pair.source, off) is None
    assert used(pair.destination, paused) is None
    still = seconds(pair.source, paused)
    uuid = pair.guests.start()
    before = seconds(pair.source, uuid)
    until(lambda: seconds(pair.source, uuid) > before, "another guest's CPU time")
    assert seconds(pair.source, paused) < still + 0.05


def test_a_migration_is_not_in_the_way_of_a_look_nor_a_look_in_its(pair: Pair) -> None:
    """Looks before, between and during all phases find the guest where it is, and the migration goes well."""
    attempt = pair.attempt(pair.move())
    ended = threading.Event()
    broken: list[RelayError] = []

    def keep_looking(host: Hypervisor) -> Callable[[], None]:
        def work() -> None:
            while not ended.is_set():
                try:
                    host.usage()
                except RelayError as error:
                    broken.append(error)

        return work

    threads = [threading.Thread(target=keep_looking(host)) for host in (pair.source, pair.destination)]
    for thread in threads:
        thread.start()
    try:
        attempt.run()
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert not broken
    assert used(pair.source, attempt.move.uuid) is None
    until(lambda: seconds(pair.destination, attempt.move.uuid) > 0, "CPU time on the destination")


def test_a_guest_that_is_being_copied_is_told(pair: Pair) -> None:
    """While perform runs, the guest still counts on its source."""
    attempt = pair.attempt(pair.move(endless=True)).run(last=Phase.PREPARE)

    def perform() -> None:
        with contextlib.suppress(RelayError):
            attempt.call(Phase.PERFORM)

    thread = threading.Thread(target=perform)
    thread.start()
    try:
        until(lambda: any(progress.iteration for progress in attempt.watch.seen), "progress")
        before = seconds(pair.source, attempt.move.uuid)
        until(lambda: seconds(pair.source, attempt.move.uuid) > before, "CPU time during perform")
    finally:
        attempt.watch.wish = Stop.CANCEL
        thread.join()
    attempt.drop()
