"""What a host says of itself, and what is made of it. Needs libvirt-python, no host."""

from __future__ import annotations

import pytest

from worker.errors import HypervisorError
from worker.hypervisors.base import Move
from worker.hypervisors.flags import MigrateFlag as Flag

pytestmark = pytest.mark.lab

MOVE = Move("a", "", int(Flag.LIVE))


def capabilities(inside: str) -> str:
    """As ``virConnectGetCapabilities`` tells them."""
    return f"<capabilities><host><uuid>1</uuid>{inside}</host></capabilities>"


@pytest.mark.parametrize(
    ("kind", "profile"), [("QEMU", "qemu"), ("vz", "vz-libvirt"), ("Parallels", "vz-libvirt"), ("VZ", "vz-libvirt")]
)
def test_kinds(kind: str, profile: str) -> None:
    """The profile follows from what the connection says it is."""
    from worker.hypervisors.libvirt.features import profile_of

    assert profile_of(kind, "alpha") == profile


@pytest.mark.parametrize("kind", ["LXC", "Test", "Xen", "BHYVE", ""])
def test_other_kinds(kind: str) -> None:
    """Anything else is refused by name."""
    from worker.hypervisors.libvirt.features import profile_of

    with pytest.raises(HypervisorError, match="alpha") as caught:
        profile_of(kind, "alpha")
    assert caught.value.code == "unsupported-hypervisor"


def test_what_is_not_said_is_not_refused() -> None:
    """Silence is no refusal, nor is an empty list of transports; a list is."""
    from worker.hypervisors.libvirt.features import Features

    rdma = Move("a", "", int(Flag.LIVE), params={"migrate_uri": "rdma://b"})
    for silent in ("", "<migration_features><live/></migration_features>"):
        Features.of(capabilities(silent)).check(rdma, "alpha")
    listed = "<migration_features><live/><uri_transports><uri_transport>tcp</uri_transport></uri_transports>"
    features = Features.of(capabilities(f"{listed}</migration_features>"))
    for uri in ("", "tcp://b", "tcp:b:1", "unix:///a"):
        features.check(Move("a", "", int(Flag.LIVE), params={"migrate_uri": uri}), "alpha")
    with pytest.raises(HypervisorError, match="no transport 'rdma'"):
        features.check(rdma, "alpha")


def test_a_host_that_cannot_migrate_live() -> None:
    """It says so by leaving out <live/>; a definition still moves."""
    from worker.hypervisors.libvirt.features import Features

    features = Features.of(capabilities("<migration_features/>"))
    with pytest.raises(HypervisorError, match="cannot migrate live"):
        features.check(MOVE, "alpha")
    features.check(Move("a", "", int(Flag.OFFLINE | Flag.PERSIST_DEST)), "alpha")


@pytest.mark.parametrize(
    ("uri", "quiet"),
    [
        ("qemu+ssh://root@a/system", "qemu+ssh://root@a/system?no_tty=1"),
        ("qemu+ssh://a:22/session?socket=/b&keyfile=/c", "qemu+ssh://a:22/session?socket=/b&keyfile=/c&no_tty=1"),
        ("qemu+ssh://a/system?no_tty=0", "qemu+ssh://a/system?no_tty=0"),
        ("qemu+unix:///session?socket=/a", "qemu+unix:///session?socket=/a"),
        ("vz:///system", "vz:///system"),
    ],
)
def test_ssh_asks_nothing(uri: str, quiet: str) -> None:
    """ssh gets no terminal, unless the inventory says so; every other URI is left as it is."""
    from worker.hypervisors.libvirt.credentials import without_questions

    assert without_questions(uri) == quiet


@pytest.mark.parametrize(
    ("domain", "code", "message", "tells"),
    [
        ("VIR_FROM_QEMU", "VIR_ERR_INTERNAL_ERROR", "qemu unexpectedly closed the monitor", True),
        ("VIR_FROM_QEMU", "VIR_ERR_OPERATION_FAILED", "load of migration failed", True),
        ("VIR_FROM_QEMU", "VIR_ERR_MIGRATE_FINISH_OK", "migration successfully aborted", False),
        ("VIR_FROM_QEMU", "VIR_ERR_NO_DOMAIN", "no domain with matching name", False),
        ("VIR_FROM_QEMU", "VIR_ERR_OPERATION_INVALID", "is not processing incoming migration", False),
        ("VIR_FROM_RPC", "VIR_ERR_INTERNAL_ERROR", "client socket is closed", False),
    ],
)
def test_what_a_cancelled_finish_tells(domain: str, code: str, message: str, tells: bool) -> None:
    """Only QEMU's own failure says why a move failed, as libvirt's client has it."""
    import libvirt

    from worker.hypervisors.libvirt.errors import tells_why

    error = libvirt.libvirtError(message)
    error.args = (message,)  # libvirt-python takes the last error of the thread
    error.err = (getattr(libvirt, code), getattr(libvirt, domain), message, 2, "", "", "", 0, 0)
    assert tells_why(error) == tells
