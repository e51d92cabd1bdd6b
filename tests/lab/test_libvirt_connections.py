"""Every way to a libvirt daemon, daemons that are of another kind, hang or want credentials."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from libvirt_lab import LIVE, Lab, Recorder, command, eventually
from listening import PASSWORD, USER, guarded_daemon, ssh_server

from worker.errors import HypervisorError, Retry
from worker.hypervisors.base import DomainState, HostConfig, Move

if TYPE_CHECKING:
    from libvirt_lab import Stage

    from worker.hypervisors.libvirt.driver import LibvirtHypervisor

pytestmark = pytest.mark.lab


@contextmanager
def opened(uri: str) -> Iterator[LibvirtHypervisor]:
    """A driver at this URI, connected."""
    from worker.hypervisors.libvirt.driver import LibvirtHypervisor

    hypervisor = LibvirtHypervisor(HostConfig("alpha", uri, "alpha"))
    try:
        hypervisor.open()
        yield hypervisor
    finally:
        hypervisor.close()


def socket_of(lab: Lab) -> str:
    """The socket of alpha's daemon."""
    return lab.uris["alpha"].split("socket=")[1]


@pytest.mark.parametrize(
    ("transport", "options"),
    [
        ("ssh", "keyfile={ssh.key}&command={ssh.client}"),
        ("ssh", "keyfile={ssh.key}&command={ssh.client}&proxy=netcat&no_tty=1"),
        ("libssh2", "keyfile={ssh.key}&known_hosts={ssh.known_hosts}&sshauth=privkey"),
        ("libssh", "keyfile={ssh.key}&known_hosts={ssh.known_hosts}&sshauth=privkey"),
    ],
)
def test_ssh(stage: Stage, transport: str, options: str) -> None:
    """A guest moves with its source reached by ssh, each of libvirt's ways of it."""
    guest = stage.guest(f"remote-{transport}-{len(options)}")
    with ssh_server() as ssh:
        query = options.format(ssh=ssh)
        uri = f"qemu+{transport}://{ssh.address}/session?socket={socket_of(stage.lab)}&{query}"
        with opened(uri) as source:
            assert source.profile == "qemu"
            stage.source, local = source, stage.source
            stage.migrate(guest.move())
            stage.source = local
    guest.beats_on()


def test_ssh_that_is_not_let_in(lab: Lab) -> None:
    """A key that is not accepted is an error, never a question on the terminal."""
    with ssh_server() as ssh:
        query = f"socket={socket_of(lab)}&keyfile={ssh.stranger}&command={ssh.client}"
        with pytest.raises(HypervisorError, match="Permission denied"), opened(f"qemu+ssh://{ssh.address}/?{query}"):
            pass


@pytest.mark.netns
@pytest.mark.parametrize("peer", ["peer", "peer-tls"])
def test_network(netns_stage: Stage, peer: str) -> None:
    """A guest moves with its source reached over TCP, plain and with TLS."""
    stage = netns_stage
    guest = stage.guest(f"by-{peer}")
    with opened((stage.lab.folder / "alpha" / peer).read_text().strip()) as source:
        assert source.profile == "qemu"
        stage.source, local = source, stage.source
        stage.migrate(guest.move())
        stage.source = local
    guest.beats_on()


@pytest.mark.netns
def test_tls_without_a_certificate(netns_lab: Lab, tmp_path: Path) -> None:
    """A daemon that wants TLS is not reached without certificates, and the error says what is missing."""
    uri = (netns_lab.folder / "alpha" / "peer-tls").read_text().split("?")[0]
    with pytest.raises(HypervisorError, match=r"cacert\.pem") as caught, opened(f"{uri}?pkipath={tmp_path}"):
        pass
    assert caught.value.untouched


def test_nobody_listens(tmp_path: Path) -> None:
    """A daemon that is not there may come back."""
    uri = f"qemu+unix:///session?socket={tmp_path}/nothing"
    with pytest.raises(HypervisorError) as caught, opened(uri):
        pass
    assert (caught.value.retry, caught.value.untouched) == (Retry.TRANSIENT, True)


def test_credentials_of_auth_conf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They are taken from libvirt's own file; missing or wrong ones are told, and never shown."""
    file = tmp_path / "auth.conf"
    monkeypatch.setenv("LIBVIRT_AUTH_FILE", str(file))

    def write(text: str) -> None:
        file.write_text(f"[credentials-lab]\n{text}\n[auth-libvirt-localhost]\ncredentials=lab\n")

    with guarded_daemon() as uri, caplog.at_level(logging.DEBUG):
        names = f"authname={USER}@lab\nusername={USER}@lab"
        write(f"{names}\npassword={PASSWORD}")
        with opened(uri) as hypervisor:
            assert hypervisor.domains() == []
        for text, told in (
            ("", "asks for authname and password and username, and the auth.conf"),
            (names, "asks for password, and the auth.conf"),
            (f"{names}\npassword={PASSWORD[:-1]}", "authentication failed"),
        ):
            write(text)
            with pytest.raises(HypervisorError, match=told) as caught, opened(uri):
                pass
            assert caught.value.retry is Retry.OPERATOR
            assert PASSWORD[:-1] not in str(caught.value)
    assert PASSWORD[:-1] not in caplog.text


def test_another_kind_of_hypervisor() -> None:
    """What libvirt reaches but the driver does not know is refused when it is opened, by the host's name."""
    with (
        pytest.raises(HypervisorError, match=r"host alpha .* kind 'TEST'.* QEMU and vz") as caught,
        opened("test:///default"),
    ):
        pass
    assert (caught.value.code, caught.value.retry) == ("unsupported-hypervisor", Retry.PERMANENT)


def test_transport_that_the_host_lacks(stage: Stage) -> None:
    """A migration URI that its capabilities do not list is refused by either side before anything is touched."""
    from worker.hypervisors.libvirt.features import Features

    guest = stage.guest("carried")
    for side in (stage.source, stage.destination):
        features = side._host.connection.features
        assert features == Features(live=True, transports=frozenset({"tcp", "rdma"}))  # whatever cards it has
        side._host.connection.features = Features(live=True, transports=frozenset({"tcp"}))
    move = guest.move(params={"migrate_uri": "rdma://beta"})
    for refuse in (
        lambda: stage.source.begin(move, stage.watch),
        lambda: stage.destination.prepare(move, "<domain/>", b"cookie", stage.watch),
    ):
        with pytest.raises(HypervisorError, match="no transport 'rdma' for migrate_uri; it has tcp") as caught:
            refuse()
        assert caught.value.untouched
    assert stage.states(guest.uuid) == (DomainState.RUNNING, DomainState.ABSENT)


def test_a_daemon_that_hangs(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keepalive gives it up, no call waits for ever, and when it goes on it is found again."""
    from worker.hypervisors.libvirt import connection

    guest = stage.guest("patient")
    monkeypatch.setattr(connection, "KEEPALIVE_SECONDS", 1)
    monkeypatch.setattr(connection, "KEEPALIVE_TRIES", 1)
    monkeypatch.setattr(connection, "OPEN_SECONDS", 0.5)
    daemon = int((stage.lab.folder / "alpha/r/libvirt/libvirtd.pid").read_text())
    with opened(stage.lab.uris["alpha"]) as hypervisor:
        assert hypervisor.inspect(guest.uuid).state is DomainState.RUNNING
        os.kill(daemon, signal.SIGSTOP)
        try:
            with pytest.raises(HypervisorError, match="keepalive") as lost:
                hypervisor.inspect(guest.uuid)
            with pytest.raises(HypervisorError, match="has not answered for") as hanging:
                hypervisor.inspect(guest.uuid)
        finally:
            os.kill(daemon, signal.SIGCONT)
        assert {lost.value.retry, hanging.value.retry} == {Retry.TRANSIENT}
        monkeypatch.undo()
        assert hypervisor.inspect(guest.uuid).state is DomainState.RUNNING
    guest.beats_on()


def test_daemon_restarted_between_calls(stage: Stage) -> None:
    """The next call finds the new daemon, without an error."""
    guest = stage.guest("unaware")
    assert stage.source.inspect(guest.uuid).state is DomainState.RUNNING
    for order in ("kill", "start"):
        command("host", stage.lab.folder, "alpha", order)
    eventually(lambda: stage.source.inspect(guest.uuid).state is DomainState.RUNNING, "the guest")
    stage.migrate(guest.move())
    guest.beats_on()


def test_refused_calls_leave_no_memory_behind(stage: Stage) -> None:
    """Thousands of phase calls with parameters of every kind, which libvirt refuses, do not make the process grow."""
    ghost = stage.guest("leaky")
    params = {
        "migrate_disks": ["vda" * 400, "vdb" * 400],
        "destination_name": "x" * 2000,
        "bandwidth": 1,
        "disks_port": 1,
    }
    move = Move(ghost.name, ghost.uuid, LIVE, params={**params, "compression": ["bogus"]})

    def refusals(count: int) -> None:
        for _ in range(count):
            with pytest.raises(HypervisorError):
                stage.destination.prepare(move, "x" * 20000, b"torn", Recorder())

    refusals(300)  # the allocator's own pools fill
    before = resident()
    refusals(1000)
    assert resident() - before < 8 << 20  # one lost set of parameters a call would be 22 MB


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
