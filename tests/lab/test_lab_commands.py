"""deploy/lab: what it makes it removes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from libvirt_lab import COMMANDS, command, eventually, traces_of, virsh

if TYPE_CHECKING:
    from libvirt_lab import Lab

pytestmark = pytest.mark.lab


def test_a_second_lab_beside_the_first(lab: Lab, folder: Path, heartbeat: ModuleType) -> None:
    """A second lab with the same names works beside the first, and goes away with guests and daemons."""
    lines = command("up", "-d", folder, "1").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["alpha"]
    assert lines[0].split()[1] != lab.uris["alpha"]
    serial = Path(command("guest", folder, "alpha", "neighbour").stdout.strip())
    eventually(lambda: heartbeat.read(serial).beats > 2, "beats in the second lab")
    command("down", folder)
    eventually(lambda: not traces_of(folder), "the end of the second lab's processes")
    assert not folder.exists()
    command("down", folder)
    assert traces_of(lab.folder)


def test_a_failed_up_leaves_nothing(folder: Path) -> None:
    """Where a daemon does not come up, up says so, and nothing of the lab stays."""
    programs = folder / "programs"
    programs.mkdir(mode=0o755)
    folder.chmod(0o755)
    daemon = programs / "libvirtd"
    # one host comes up, and the other's daemon dies
    daemon.write_text('#!/bin/sh\ncase "$*" in */beta/*) echo no luck; exit 1;; esac\nexec /usr/sbin/libvirtd "$@"\n')
    daemon.chmod(0o755)
    with pytest.raises(AssertionError, match="no luck\nthe daemon of host beta ended"):
        command("up", "-d", folder / "l", env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"})
    assert not (folder / "l").exists()
    eventually(lambda: not traces_of(folder / "l"), "the end of the failed lab's processes")


@pytest.mark.parametrize(
    ("options", "how"),
    [
        ([], signal.SIGTERM),
        ([], signal.SIGINT),
        pytest.param(["--netns"], signal.SIGTERM, marks=pytest.mark.netns),
    ],
)
def test_an_interrupted_up_leaves_nothing(folder: Path, options: list[str], how: signal.Signals) -> None:
    """Interrupted while its daemons start, up removes what it made."""
    up = subprocess.Popen([str(COMMANDS / "up"), *options, "-d", str(folder)], stdout=subprocess.PIPE)
    eventually((folder / "alpha").exists, "the first host's folder")
    up.send_signal(how)
    assert up.wait(30) == 1
    assert up.stdout is not None
    up.stdout.close()
    assert not folder.exists()
    eventually(lambda: not traces_of(folder), "the end of the lab's processes")


@pytest.mark.parametrize(
    ("options", "milestone"),
    [
        ([], "alpha/log"),
        pytest.param(["--netns", "--tls"], "alpha/tls/client-key.pem", marks=pytest.mark.netns),
        pytest.param(["--netns"], "alpha/ready", marks=pytest.mark.netns),
        pytest.param(["--netns"], "beta/run/libvirt-sock", marks=pytest.mark.netns),
    ],
)
def test_down_after_a_killed_up(folder: Path, options: list[str], milestone: str) -> None:
    """Wherever up is killed, down removes what it had made: processes, mounts, devices, the folder."""
    up = subprocess.Popen([str(COMMANDS / "up"), *options, "-d", str(folder)], stdout=subprocess.DEVNULL)
    eventually((folder / milestone).exists, milestone)
    up.kill()
    up.wait(30)
    command("down", folder)
    assert not folder.exists()
    eventually(lambda: not traces_of(folder), "the end of everything")


@pytest.mark.netns
def test_down_when_the_folder_is_gone(folder: Path) -> None:
    """A lab whose folder somebody removed can still be ended by its name."""
    command("up", "--netns", "-d", folder, "1")
    shutil.rmtree(folder)
    assert traces_of(folder)
    command("down", folder)
    eventually(lambda: not traces_of(folder), "the end of everything")


def test_a_path_too_long_for_sockets(folder: Path) -> None:
    """A folder whose sockets would not work is refused, and nothing of it stays."""
    with pytest.raises(AssertionError, match="too long"):
        command("up", "-d", folder / ("x" * 60))
    assert not list(folder.iterdir())


def test_folders_of_others_are_safe(folder: Path) -> None:
    """Up takes no folder with something in it, and down removes none that is not a lab."""
    (folder / "precious").touch()
    with pytest.raises(AssertionError, match="not empty"):
        command("up", "-d", folder)
    with pytest.raises(AssertionError, match="no lab"):
        command("down", folder)
    assert (folder / "precious").exists()


@pytest.mark.parametrize("words", [("0",), ("11",), ("Alpha",), ("a/b",), ("a" * 17,), ("lab",)])
def test_bad_names_and_numbers(folder: Path, words: tuple[str, ...]) -> None:
    """Numbers and names that cannot be hosts are refused before anything is made."""
    with pytest.raises(AssertionError, match="host"):
        command("up", "-d", folder, *words)
    assert not list(folder.iterdir())


def test_install_is_content() -> None:
    """With all packages there, install does and says nothing."""
    done = command("install")
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("kind", ["lab", pytest.param("netns_lab", marks=pytest.mark.netns)])
def test_tls(request: pytest.FixtureRequest, heartbeat: ModuleType, kind: str) -> None:
    """Guests move with --tls, and not where the destination is not who it should be."""
    lab: Lab = request.getfixturevalue(kind)
    serial = Path(command("guest", lab.folder, "alpha", "secret", "-m", "32").stdout.strip())
    move = ["migrate", "--live", "--persistent", "--undefinesource", "--tls", "secret", lab.uris["beta"]]
    # Which of the two QEMUs tells first is a matter of luck.
    with pytest.raises(AssertionError, match=r"ertificate does not match the hostname|Cannot read from TLS channel"):
        virsh(lab.uris["alpha"], *move, "--tls-destination", "elsewhere.example")
    virsh(lab.uris["alpha"], *move)
    virsh(lab.uris["beta"], "destroy", "secret")
    virsh(lab.uris["beta"], "undefine", "secret")
    assert heartbeat.read(serial).unbroken


def test_a_disk_moves_between_session_hosts(lab: Lab, heartbeat: ModuleType) -> None:
    """Under another path, which the XML names, the disk is copied whole; under the same one libvirt refuses."""
    alpha, beta = lab.uris["alpha"], lab.uris["beta"]
    serial = Path(command("guest", lab.folder, "alpha", "mover", "-m", "32", "-d", "8").stdout.strip())
    move = ["migrate", "--live", "--persistent", "--undefinesource", "--copy-storage-all", "mover", beta]
    with pytest.raises(AssertionError):
        virsh(alpha, *move)
    elsewhere = []
    for option, dump in (("--xml", ["dumpxml", "mover"]), ("--persistent-xml", ["dumpxml", "--inactive", "mover"])):
        text = virsh(alpha, *dump, "--migratable").replace(f"{lab.folder}/alpha/images", f"{lab.folder}/beta/images")
        file = lab.folder / f"mover{option}"
        file.write_text(text)
        elsewhere += [option, str(file)]
    virsh(alpha, *move, *elsewhere)
    beats = heartbeat.read(serial).beats
    eventually(lambda: heartbeat.read(serial).beats > beats + 2, "beats from the destination")
    virsh(beta, "destroy", "mover")
    virsh(beta, "undefine", "mover")
    assert heartbeat.read_disk(lab.folder / "beta/images/mover.qcow2") == (heartbeat.read(serial).last, 0)
    assert heartbeat.read(serial).unbroken
