"""deploy/lab/up --netns: hosts in namespaces of their own."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from conftest import eventually

if TYPE_CHECKING:
    from conftest import Stage

pytestmark = [pytest.mark.lab, pytest.mark.netns]


def virsh(uri: str, *words: str) -> str:
    """What virsh prints."""
    done = subprocess.run(["virsh", "-q", "-c", uri, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_post_copy_by_virsh(netns_stage: Stage) -> None:
    """A guest that dirties sixteen times what the link may carry moves by post-copy, and misses no beat."""
    guest = netns_stage.guest("lazy", memory=64, rate=64)
    alpha, beta = (netns_stage.lab.uris[name] for name in ("alpha", "beta"))
    words = ["migrate", "--live", "--persistent", "--undefinesource", "--postcopy", "--bandwidth", "4", "lazy", beta]
    with subprocess.Popen(["virsh", "-q", "-c", alpha, *words]) as move:
        eventually(lambda: "Memory bandwidth" in virsh(alpha, "domjobinfo", "lazy"), "the copy")
        virsh(alpha, "migrate-postcopy", "lazy")
        assert move.wait(30) == 0
    guest.beats_on()


def test_peer_to_peer_by_virsh(netns_stage: Stage) -> None:
    """The source's daemon reaches the destination's over TCP."""
    guest = netns_stage.guest("peer")
    words = ["--live", "--p2p", "--persistent", "--undefinesource", "peer", netns_stage.lab.peers["beta"]]
    virsh(netns_stage.lab.uris["alpha"], "migrate", *words)
    assert virsh(netns_stage.lab.peers["beta"], "domstate", "peer").strip() == "running"
    guest.beats_on()
