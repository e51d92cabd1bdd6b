"""Disks that move with their guest, and disks that both hosts see."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from libvirt_lab import LIVE, command, virsh

from worker.errors import HypervisorError, Rejected, Retry
from worker.hypervisors.base import DomainState, ParamValue
from worker.hypervisors.flags import MigrateFlag as Flag

if TYPE_CHECKING:
    from libvirt_lab import Guest, Lab, Stage

pytestmark = [pytest.mark.lab, pytest.mark.netns]

ALL, INC, SYNCHRONOUS = Flag.NON_SHARED_DISK, Flag.NON_SHARED_INC, Flag.NON_SHARED_SYNCHRONOUS_WRITES
PATTERN, PATTERN_MIB = "write -P 0xa5 1M 6M", 6


def image(lab: Lab, host: str, name: str) -> Path:
    """A guest's disk on one host: each has a folder of its own, under the same name for its guests."""
    return lab.folder / host / "lib" / "images" / f"{name}.qcow2"


def qemu(tool: str, *words: str | Path) -> str:
    """Run one of QEMU's tools for images."""
    done = subprocess.run([tool, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def listening(lab: Lab, host: str) -> set[int]:
    """The TCP ports on which a host listens."""
    tables = command("host", lab.folder, host, "run", "cat", "/proc/net/tcp", "/proc/net/tcp6").stdout
    rows = [line.split() for line in tables.splitlines()]
    return {int(row[1].rsplit(":", 1)[1], 16) for row in rows if row[3] == "0A"}


_numbers = count()


@pytest.fixture
def archivist(netns_stage: Stage) -> Iterator[Guest]:
    """A guest with a disk that holds a pattern, and on which it records every beat."""
    # a name of its own: the destination's pool remembers the disks that came
    lab, name = netns_stage.lab, f"archivist-{next(_numbers)}"
    guest = netns_stage.guest(name, disk=8)
    virsh(lab.uris["alpha"], "destroy", name)
    qemu("qemu-io", "-c", PATTERN, image(lab, "alpha", name))
    guest.serial.write_text("")
    virsh(lab.uris["alpha"], "start", name)
    guest.some_beats()
    yield guest
    for hypervisor in (netns_stage.source, netns_stage.destination):
        hypervisor.close()
        hypervisor.remove(guest.uuid)
    for host in ("alpha", "beta"):
        for disk in image(lab, host, name).parent.glob(f"*{name}.qcow2"):
            disk.unlink()


def same_on_both(stage: Stage, guest: Guest) -> None:
    """The guest, which arrived paused, is switched off: what it left here and what came there is the same disk."""
    virsh(stage.lab.uris["beta"], "destroy", guest.name)
    here, there = (image(stage.lab, host, guest.name) for host in ("alpha", "beta"))
    assert "identical" in qemu("qemu-img", "compare", here, there)
    assert "failed" not in qemu("qemu-io", "-r", "-c", PATTERN.replace("write", "read"), there)
    last, lost = stage.heartbeat.read_disk(there)
    assert not lost
    assert stage.heartbeat.read(guest.serial).last - last in (0, 1)  # it writes the line, then the disk


@pytest.mark.parametrize(
    ("flags", "params"),
    [
        (ALL, {}),
        (ALL, {"migrate_disks": ["hda"]}),
        (ALL | SYNCHRONOUS, {}),
        (ALL | Flag.TLS, {}),
        (ALL | Flag.PEER2PEER, {}),
        (ALL | Flag.PARALLEL | Flag.COMPRESSED, {"bandwidth": 200}),
    ],
    ids=["all", "migrate-disks", "synchronous-writes", "tls", "p2p", "parallel_compressed_bandwidth"],
)
def test_copy_storage(netns_stage: Stage, archivist: Guest, flags: Flag, params: Mapping[str, ParamValue]) -> None:
    """The destination's disk is, bit for bit, what the source's was when the guest stood still."""
    netns_stage.migrate(archivist.move(LIVE | int(flags | Flag.PAUSED), params=params))
    same_on_both(netns_stage, archivist)


def test_copy_storage_of_a_running_guest(netns_stage: Stage, archivist: Guest) -> None:
    """It arrives running, and writes on to the disk that came with it."""
    netns_stage.migrate(archivist.move(LIVE | int(ALL)))
    archivist.beats_on()
    virsh(netns_stage.lab.uris["beta"], "destroy", archivist.name)
    last, lost = netns_stage.heartbeat.read_disk(image(netns_stage.lab, "beta", archivist.name))
    assert not lost
    assert netns_stage.heartbeat.read(archivist.serial).last - last in (0, 1)


# libvirt 9.0.0 keeps a port that it was given reserved, so each has its own
@pytest.mark.parametrize(("option", "port"), [("disks_port", 49431), ("disks_uri", 49432)])
def test_where_disks_go(netns_stage: Stage, archivist: Guest, option: str, port: int) -> None:
    """disks-port and disks-uri: the destination's disk server listens on that port."""
    address = urlsplit(netns_stage.lab.peers["beta"]).hostname
    params: dict[str, ParamValue] = {option: port if option == "disks_port" else f"tcp://{address}:{port}"}
    move, watch = archivist.move(LIVE | int(ALL | Flag.PAUSED), params=params), netns_stage.watch
    begun, prepared = netns_stage.up_to_prepare(move)
    assert port in listening(netns_stage.lab, "beta")
    performed = netns_stage.source.perform(move, begun.xml, prepared.uri, prepared.cookie, watch)
    finished = netns_stage.destination.finish(move, performed.cookie, False, watch)
    assert netns_stage.source.confirm(move, finished.cookie, False, watch).state is DomainState.ABSENT
    same_on_both(netns_stage, archivist)


def layered(stage: Stage, guest: Guest) -> None:
    """Switch the guest off, put an empty layer on its disk, and start it again."""
    virsh(stage.lab.uris["alpha"], "destroy", guest.name)
    top = image(stage.lab, "alpha", guest.name)
    top.rename(top.with_name(f"base-{top.name}"))
    overlay(top)
    guest.serial.write_text("")
    virsh(stage.lab.uris["alpha"], "start", guest.name)
    guest.some_beats()


def overlay(top: Path) -> None:
    """An empty layer on the image of that name with ``base-`` before it."""
    qemu("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", f"base-{top.name}", top)


def test_copy_storage_inc(netns_stage: Stage, archivist: Guest) -> None:
    """Only the top layer is copied, onto the base that is on the destination already."""
    layered(netns_stage, archivist)
    here, there = (image(netns_stage.lab, host, archivist.name) for host in ("alpha", "beta"))
    shutil.copy(here.with_name(f"base-{here.name}"), there.with_name(f"base-{there.name}"))
    overlay(there)
    netns_stage.migrate(archivist.move(LIVE | int(INC | Flag.PAUSED)))
    same_on_both(netns_stage, archivist)
    assert there.stat().st_size < PATTERN_MIB << 20


def test_copy_storage_inc_without_a_base(netns_stage: Stage, archivist: Guest) -> None:
    """libvirt does not make the layers of a disk on the destination: refused with its reason, and the guest runs on."""
    layered(netns_stage, archivist)
    move = archivist.move(LIVE | int(INC))
    begun = netns_stage.source.begin(move, netns_stage.watch)
    with pytest.raises(HypervisorError) as caught:
        netns_stage.destination.prepare(move, begun.xml, begun.cookie, netns_stage.watch)
    assert "pre-creation of storage targets for incremental storage migration" in caught.value.message
    assert Retry.TRANSIENT not in (caught.value.retry, caught.value.after)
    netns_stage.drop(move)
    archivist.beats_on()


def test_cancelled_while_the_disk_is_copied(netns_stage: Stage, archivist: Guest) -> None:
    """The guest runs on with its own disk, what was made for it elsewhere is gone, and it can move afterwards."""
    from worker.errors import Cancelled
    from worker.hypervisors.base import Stop

    move = archivist.move(LIVE | int(ALL), params={"bandwidth": 1})
    begun, prepared = netns_stage.up_to_prepare(move)
    watch = netns_stage.watch
    watch.stopping = lambda: Stop.CANCEL if watch.seen and watch.seen[-1].total_bytes else None
    with pytest.raises(Cancelled):
        netns_stage.source.perform(move, begun.xml, prepared.uri, prepared.cookie, watch)
    watch.stopping = lambda: None
    netns_stage.drop(move)
    archivist.beats_on()
    netns_stage.migrate(archivist.move(LIVE | int(ALL | Flag.PAUSED)))
    same_on_both(netns_stage, archivist)


def test_unsafe(stage: Stage) -> None:
    """A disk that both hosts see, but no network file system, is left where it is unless unsafe is asked for."""
    guest = stage.guest("reckless", disk=8)
    with pytest.raises((Rejected, HypervisorError)) as caught:
        stage.source.begin(guest.move(), stage.watch)
    assert caught.value.code == "VIR_ERR_MIGRATE_UNSAFE"
    assert "Migration without shared storage is unsafe" in caught.value.message
    assert stage.source.inspect(guest.uuid).state is DomainState.RUNNING
    stage.migrate(guest.move(LIVE | int(Flag.UNSAFE)))
    guest.beats_on()
    stage.destination.remove(guest.uuid)
    last, lost = stage.heartbeat.read_disk(stage.lab.folder / "alpha" / "images" / "reckless.qcow2")
    assert not lost
    assert stage.heartbeat.read(guest.serial).last - last in (0, 1)
