"""deploy/lab/up --netns: hosts in namespaces of their own, links that are cut, slowed and healed."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from libvirt_lab import command, eventually, traces_of, virsh

if TYPE_CHECKING:
    from libvirt_lab import Lab, Stage

pytestmark = [pytest.mark.lab, pytest.mark.netns]
MOVE = ("migrate", "--live", "--persistent", "--undefinesource")
LIBVIRT_TCP_PORT = 16509


@pytest.fixture
def healed(netns_lab: Lab) -> Iterator[Lab]:
    """The lab, whose links are healed afterwards."""
    yield netns_lab
    command("link", netns_lab.folder, "beta", "heal")


def address(lab: Lab, host: str) -> str:
    """A host's address in its lab's network."""
    return str(urlsplit(lab.peers[host]).hostname)


def answers(lab: Lab, host: str) -> bool:
    """Whether the host's daemon is reached through the network."""
    try:
        socket.create_connection((address(lab, host), LIBVIRT_TCP_PORT), timeout=0.5).close()
    except OSError:
        return False
    return True


def test_post_copy_by_virsh(netns_stage: Stage) -> None:
    """A guest that dirties sixteen times what the link may carry moves by post-copy, and misses no beat."""
    guest = netns_stage.guest("lazy", memory=64, rate=64)
    alpha, beta = (netns_stage.lab.uris[name] for name in ("alpha", "beta"))
    with subprocess.Popen(["virsh", "-q", "-c", alpha, *MOVE, "--postcopy", "--bandwidth", "4", "lazy", beta]) as move:
        eventually(lambda: "Memory bandwidth" in virsh(alpha, "domjobinfo", "lazy"), "the copy")
        virsh(alpha, "migrate-postcopy", "lazy")
        assert move.wait(30) == 0
    guest.beats_on()


@pytest.mark.parametrize("file", ["peer", "peer-tls"])
def test_peer_to_peer_by_virsh(netns_stage: Stage, file: str) -> None:
    """The source's daemon reaches the destination's over TCP, and over TLS."""
    guest = netns_stage.guest(file)
    uri = (netns_stage.lab.folder / "beta" / file).read_text().strip()
    virsh(netns_stage.lab.uris["alpha"], *MOVE, "--p2p", file, uri)
    assert virsh(uri, "domstate", file).strip() == "running"
    guest.beats_on()


def test_a_link_is_cut_and_healed(healed: Lab) -> None:
    """Nothing reaches a host whose link is cut; its neighbours and its socket are not concerned."""
    assert answers(healed, "beta")
    command("link", healed.folder, "beta", "cut")
    assert not answers(healed, "beta")
    assert answers(healed, "alpha")
    assert virsh(healed.uris["beta"], "hostname").strip() == "beta"
    call = f"import socket; socket.create_connection(('{address(healed, 'beta')}', {LIBVIRT_TCP_PORT}), timeout=0.5)"
    with pytest.raises(AssertionError, match=r"timed out|No route"):
        command("host", healed.folder, "alpha", "run", "/usr/bin/python3", "-c", call)
    command("link", healed.folder, "beta", "heal")
    eventually(lambda: answers(healed, "beta"), "the healed link")
    command("host", healed.folder, "alpha", "run", "/usr/bin/python3", "-c", call)


def test_a_slow_link_holds_a_migration_until_it_is_healed(healed: Lab, netns_stage: Stage) -> None:
    """A guest that dirties more than a slow link carries does not arrive; once the link is healed it does."""
    alpha, beta = healed.uris["alpha"], healed.uris["beta"]
    guest = netns_stage.guest("crawler", memory=32, rate=16)
    command("link", healed.folder, "beta", "slow", "--rate", "40")
    with subprocess.Popen(["virsh", "-q", "-c", alpha, *MOVE, "crawler", beta]) as move:
        eventually(lambda: "Iteration:        2" in virsh(alpha, "domjobinfo", "crawler"), "the second round")
        assert move.poll() is None
        command("link", healed.folder, "beta", "heal")
        assert move.wait(30) == 0
    guest.beats_on()


def test_delay_where_the_kernel_can(healed: Lab) -> None:
    """A delay is set, or the module that the kernel lacks is named."""
    try:
        command("link", healed.folder, "beta", "slow", "--delay", "20", "--rate", "100")
    except AssertionError as refused:
        assert "module sch_netem" in str(refused)  # noqa: PT017
    else:
        assert "netem" in command("host", healed.folder, "beta", "run", "tc", "qdisc", "show", "dev", "eth0").stdout


def test_a_copied_disk_is_whole(netns_stage: Stage) -> None:
    """A disk that moves with its guest holds the guest's last beats, and what was on it before."""
    lab, heartbeat = netns_stage.lab, netns_stage.heartbeat
    guest = netns_stage.guest("archivist", disk=16)
    source, destination = (lab.folder / host / "lib/images/archivist.qcow2" for host in ("alpha", "beta"))
    virsh(lab.uris["alpha"], "destroy", "archivist")
    subprocess.run(["qemu-io", "-c", "write -P 0xa5 1M 15M", source], check=True, capture_output=True)
    virsh(lab.uris["alpha"], "start", "archivist")
    guest.some_beats()
    virsh(lab.uris["alpha"], *MOVE, "--copy-storage-all", "--tls", "archivist", lab.uris["beta"])
    guest.some_beats()
    virsh(lab.uris["beta"], "destroy", "archivist")
    assert heartbeat.read_disk(destination) == (heartbeat.read(guest.serial).last, 0)
    pattern = ["qemu-io", "-r", "-c", "read -P 0xa5 1M 15M", destination]
    assert (
        "Pattern verification failed" not in subprocess.run(pattern, check=True, capture_output=True, text=True).stdout
    )
    for image in (source, destination):
        image.unlink()


def test_a_second_lab_beside_the_first(netns_lab: Lab, folder: Path, heartbeat: ModuleType) -> None:
    """A lab with the same names has its own network and hosts, whose guests outlive the daemon; all of it goes away."""
    line = command("up", "--netns", "-d", folder, "1").stdout
    assert line == f"alpha qemu+unix:///system?socket={folder}/alpha/run/libvirt-sock\n"
    assert (folder / "alpha/peer").read_text().strip() != netns_lab.peers["alpha"]
    serial = Path(command("guest", folder, "alpha", "neighbour").stdout.strip())
    command("host", folder, "alpha", "kill")
    before = heartbeat.read(serial).beats
    eventually(lambda: heartbeat.read(serial).beats > before + 2, "beats without a daemon")
    assert command("host", folder, "alpha", "start").stdout == line
    assert virsh(line.split()[1], "domstate", "neighbour").strip() == "running"
    assert heartbeat.read(serial).unbroken
    assert traces_of(folder)
    command("down", folder)
    assert not traces_of(folder)
    assert not folder.exists()
    assert answers(netns_lab, "alpha")


def test_folders_that_the_hosts_cannot_see() -> None:
    """A lab under a folder that its hosts have for themselves is refused."""
    with pytest.raises(AssertionError, match="cannot see"):
        command("up", "--netns", "-d", "/run/lab-of-a-test")
    assert not Path("/run/lab-of-a-test").exists()


def test_links_of_session_labs(lab: Lab) -> None:
    """A session lab has no links; the answer names what has."""
    with pytest.raises(AssertionError, match="--netns"):
        command("link", lab.folder, "beta", "cut")
