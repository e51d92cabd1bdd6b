"""The options of ``virsh migrate``, each with a real guest: it moves and the option is seen to act."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from libvirt_lab import LIVE, Recorder

from worker.hypervisors.base import DomainState, Finished, ParamValue, Prepared, Progress
from worker.hypervisors.flags import MigrateFlag as Flag

if TYPE_CHECKING:
    from libvirt_lab import Guest, Stage

pytestmark = pytest.mark.lab

ESTABLISHED, LISTENING = "01", "0A"
UNLIMITED = 1 << 20  # MiB/s
LOOKS = 300
"""After so many looks that did not show it the copying goes on, and the test tells what was seen."""
NONE = Flag(0)
# of libvirt, which is not imported without the lab
INACTIVE, MIGRATABLE = 2, 8


def ask_qemu(uri: str, name: str, command: str) -> Any:
    """What a guest's own QEMU answers."""
    words = ["virsh", "-q", "-c", uri, "qemu-monitor-command", name, json.dumps({"execute": command})]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["return"]


def sockets(state: str) -> list[str]:
    """The local addresses, as ADDRESS:PORT, of this machine's TCP sockets in that state."""
    found = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, its_state, *_ = line.split()
        if its_state == state:
            address, port = local.split(":")
            found.append(".".join(str(byte) for byte in reversed(bytes.fromhex(address))) + f":{int(port, 16)}")
    return found


@dataclass
class Seen(Recorder):
    """A ``Watch`` that looks into the running perform until it has seen enough.

    The copying is held back until then, and set free afterwards.
    """

    stage: Stage = field(kw_only=True)
    guest: Guest = field(kw_only=True)
    enough: Callable[[Seen], bool] = field(kw_only=True)
    statistics: dict[str, Any] = field(default_factory=dict)
    """The last ones of libvirt's job."""
    parameters: dict[str, Any] = field(default_factory=dict)
    capabilities: dict[str, bool] = field(default_factory=dict)
    """Those of the source's QEMU, in its words."""
    connections: int = 0
    """The most connections to the migration port at once."""
    listening: list[str] = field(default_factory=list)
    """The addresses on which this machine listens after prepare."""
    prepared: Prepared = field(init=False)
    free: bool = False

    def progress(self, progress: Progress) -> None:
        """Look, and let the copying go when that was enough."""
        super().progress(progress)
        if self.free:
            return
        self._look()
        if self._shown() or len(self.seen) > LOOKS:
            with self.stage.by_hand("alpha", self.guest.uuid) as domain:
                domain.migrateSetMaxSpeed(UNLIMITED)
            self.free = True

    def _look(self) -> None:
        import libvirt

        with self.stage.by_hand("alpha", self.guest.uuid) as domain, contextlib.suppress(libvirt.libvirtError):
            self.statistics = domain.jobStats()
        if not self.capabilities:
            self.capabilities, self.parameters = self._tuned()
        port = self.prepared.uri.rsplit(":", 1)[1]
        here = [address for address in sockets(ESTABLISHED) if address.endswith(f":{port}")]
        self.connections = max(self.connections, len(here))

    def _tuned(self) -> tuple[dict[str, bool], dict[str, Any]]:
        # the destination's QEMU cannot be asked: libvirt's job there keeps everyone out
        uri, name = self.stage.lab.uris["alpha"], self.guest.name
        capabilities = ask_qemu(uri, name, "query-migrate-capabilities")
        parameters = ask_qemu(uri, name, "query-migrate-parameters")
        return {entry["capability"]: entry["state"] for entry in capabilities}, parameters

    def _shown(self) -> bool:
        if not self.statistics.get("memory_iteration"):
            return False
        try:
            return bool(self.enough(self))
        except KeyError:  # not told yet
            return False

    def migrate(self, flags: int, params: Mapping[str, ParamValue]) -> Finished:
        """All five phases."""
        move = self.guest.move(flags, params=params)
        begun = self.stage.source.begin(move, self)
        self.prepared = self.stage.destination.prepare(move, begun.xml, begun.cookie, self)
        self.listening = sockets(LISTENING)
        performed = self.stage.source.perform(move, begun.xml, self.prepared.uri, self.prepared.cookie, self)
        finished = self.stage.destination.finish(move, performed.cookie, False, self)
        assert self.stage.source.confirm(move, finished.cookie, False, self).state is DomainState.ABSENT
        return finished


@dataclass(frozen=True)
class Option:
    """One option, or some that belong together, in the driver's words; and how the running job shows it."""

    words: str
    """``virsh migrate``'s."""
    shows: Callable[[Seen], bool]
    flags: Flag = NONE
    params: Mapping[str, ParamValue] = field(default_factory=dict)
    rate: int = 2
    """MiB that the guest dirties in a second."""


TUNING = [
    Option(
        "bandwidth 1",
        lambda s: s.parameters["max-bandwidth"] == 1 << 20 and 0 < s.statistics["memory_bps"] < 2 << 20,
    ),
    Option("compressed", lambda s: s.capabilities["xbzrle"] and s.statistics["compression_cache"] > 0, Flag.COMPRESSED),
    Option(
        "compressed comp-methods xbzrle comp-xbzrle-cache",
        lambda s: s.capabilities["xbzrle"] and s.statistics["compression_cache"] == 1 << 20,
        Flag.COMPRESSED,
        {"compression": ["xbzrle"], "compression.xbzrle.cache": 1 << 20},
    ),
    Option(
        "compressed comp-methods mt,xbzrle comp-mt-level comp-mt-threads comp-mt-dthreads",
        lambda s: (
            s.capabilities["compress"]
            and s.capabilities["xbzrle"]
            and (s.parameters["compress-level"], s.parameters["compress-threads"]) == (1, 2)
        ),
        Flag.COMPRESSED,
        {
            "compression": ["mt", "xbzrle"],
            "compression.mt.level": 1,
            "compression.mt.threads": 2,
            "compression.mt.dthreads": 3,
        },
    ),
    # one connection more than channels
    Option("parallel", lambda s: s.capabilities["multifd"] and s.connections == 1 + 2, Flag.PARALLEL),
    Option(
        "parallel parallel-connections 4",
        lambda s: s.parameters["multifd-channels"] == 4 and s.connections == 1 + 4,
        Flag.PARALLEL,
        {"parallel.connections": 4},
    ),
    Option(
        "auto-converge auto-converge-initial auto-converge-increment",
        lambda s: (
            s.capabilities["auto-converge"]
            and (s.parameters["cpu-throttle-initial"], s.parameters["cpu-throttle-increment"]) == (15, 7)
            and s.statistics["auto_converge_throttle"] >= 15
        ),
        Flag.AUTO_CONVERGE,
        {"auto_converge.initial": 15, "auto_converge.increment": 7, "bandwidth": 6},
        rate=40,
    ),
    Option("rdma-pin-all, which only rdma:// heeds", lambda s: s.capabilities["rdma-pin-all"], Flag.RDMA_PIN_ALL),
    # the bandwidth after the switch is kept until then
    Option("postcopy-bandwidth", lambda s: s.parameters["max-bandwidth"] == 1 << 20, params={"bandwidth.postcopy": 5}),
    Option(
        "tls-destination, which without tls nobody heeds",
        lambda s: not s.parameters["tls-creds"],
        params={"tls.destination": "elsewhere"},
    ),
]


def of_option(option: Option) -> str:
    """A test's id."""
    return option.words.split(", which")[0].replace(" ", "_")


@pytest.mark.parametrize("option", TUNING, ids=of_option)
def test_tuning(stage: Stage, option: Option) -> None:
    """The guest moves with every beat, and the running job shows what was asked for."""
    guest = stage.guest(f"tuned-{TUNING.index(option)}", memory=16, rate=option.rate)
    seen = Seen(stage=stage, guest=guest, enough=option.shows)
    seen.migrate(LIVE | int(option.flags), {"bandwidth": 1, **option.params})
    assert option.shows(seen), (seen.statistics, seen.parameters, seen.capabilities, seen.connections)
    assert stage.states(guest.uuid) == (DomainState.ABSENT, DomainState.RUNNING)
    guest.beats_on()


def address_of(stage: Stage, host: str) -> str:
    """The address at which a host of the lab takes migrations: a loopback address of its own."""
    conf = (stage.lab.folder / host / "c" / "libvirt" / "qemu.conf").read_text()
    return next(line.split('"')[1] for line in conf.splitlines() if line.startswith("migration_host"))


def test_where_the_data_goes(stage: Stage) -> None:
    """migrateuri and listen-address: the destination listens there, on that port, and the data comes in there."""
    guest = stage.guest("led")
    address = address_of(stage, "beta")
    seen = Seen(stage=stage, guest=guest, enough=lambda seen: seen.connections == 1)
    params: dict[str, ParamValue] = {"migrate_uri": f"tcp://{address}:49777", "listen_address": address, "bandwidth": 1}
    seen.migrate(LIVE, params)
    assert seen.prepared.uri == f"tcp://{address}:49777"
    assert f"{address}:49777" in seen.listening
    assert seen.connections == 1
    guest.beats_on()


def test_definitions_and_name(stage: Stage) -> None:
    """dname, xml and persistent-xml: the guest has the new name at once, and each definition its own title."""
    guest = stage.guest("plain")
    with stage.by_hand("alpha", guest.uuid) as domain:
        live, persistent = domain.XMLDesc(MIGRATABLE), domain.XMLDesc(INACTIVE)
    params: dict[str, ParamValue] = {
        "destination_name": "renamed",
        "destination_xml": live.replace("</uuid>", "</uuid><title>for now</title>"),
        "persistent_xml": persistent.replace("</uuid>", "</uuid><title>for ever</title>"),
    }
    stage.migrate(guest.move(params=params))
    with stage.by_hand("beta", guest.uuid) as domain:
        assert domain.name() == "renamed"
        assert "<title>for now</title>" in domain.XMLDesc()
        assert "<title>for ever</title>" in domain.XMLDesc(INACTIVE)
    guest.beats_on()


def test_a_transient_copy(stage: Stage) -> None:
    """Without persistent and undefinesource the destination's copy is transient, the source keeps the definition."""
    guest = stage.guest("fleeting")
    move = guest.move(int(Flag.LIVE))
    finished = stage.destination.finish(move, stage.up_to_perform(move), False, stage.watch)
    assert not finished.domain.persistent
    assert stage.source.confirm(move, finished.cookie, False, stage.watch).state is DomainState.SHUTOFF
    guest.beats_on()


def test_not_live(stage: Stage) -> None:
    """Without live the guest stands still while it is copied, and beats on afterwards without one beat lost."""
    guest = stage.guest("still")
    stage.migrate(guest.move(LIVE & ~int(Flag.LIVE)))
    guest.beats_on()


@pytest.mark.parametrize("uri", ["spice://192.0.2.1:5999", "nonsense"])
def test_graphics(stage: Stage, uri: str) -> None:
    """graphicsuri of a guest without a screen: libvirt warns of a bad one at most, and the guest moves."""
    guest = stage.guest(f"blind-{uri[:5]}")
    stage.migrate(guest.move(params={"graphics_uri": uri}))
    guest.beats_on()
