"""Small clusters for the tests of the planner's benchmark."""

from __future__ import annotations

from worker.contract.plans import Goal, GuestSpec, HostSpec, Problem

CLUSTER = """\
group-01|uuid-1|preferred||

old|4096|96|2000|100|100|4|M|uuid-1|1|hv:old,power:a
new|4096|0|3096|100|100|4|N|uuid-1|1|hv:new,power:a
off|4096|0|4096|100|100|4|Y|uuid-1|1|hv:new,power:b

web|1000|0|2|running|Y|old|new|drbd|service:www|1
db|1000|0|4|running|Y|old||plain||1
shop|1000|0|2|running|Y|new||ext|service:www|1

htools:iextags:service
htools:nlocation:power
htools:migration:hv
htools:allowmigration:hv:old::hv:new

|128,1,1024,1,1,1|128,1,1024,1,1,1;32768,8,1048576,16,8,12|ext|2.0|32.0
"""
BALANCE = Goal(kind="balance", ceiling_points=10)


def hosts(*names: str, memory: int = 1000, **more: int) -> tuple[HostSpec, ...]:
    """Hosts of one size."""
    return tuple(HostSpec(name=name, memory_mib=memory, mib_per_second=100, **more) for name in names)


def guest(name: str, host: str, memory: int, pinned: str = "") -> GuestSpec:
    """A guest whose name is its id."""
    return GuestSpec(id=name, name=name, host=host, memory_mib=memory, pinned=pinned)


def swap() -> Problem:
    """Two full hosts whose guests are to change places, and an empty one."""
    return Problem(
        hosts=hosts("a", "b", "c"),
        guests=(guest("one", "a", 800), guest("two", "b", 800)),
        goal=Goal(kind="place", targets={"one": "b", "two": "a"}),
    )
