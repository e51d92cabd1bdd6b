"""docs/lab.md: what it shows works as it shows it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from libvirt_lab import COMMANDS, traces_of

ROOT = COMMANDS.parents[1]
PAGE = (ROOT / "docs" / "lab.md").read_text(encoding="utf-8")
SESSION, NETNS = re.findall(r"^```console\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def steps(block: str) -> list[tuple[str, str]]:
    """Each command of a block with the output that follows it."""
    return re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)


@pytest.mark.lab
@pytest.mark.parametrize("block", [SESSION, pytest.param(NETNS, marks=pytest.mark.netns)], ids=["session", "netns"])
def test_a_session_as_shown(folder: Path, block: str) -> None:
    """Every command of the page ends well, prints what the page says, and nothing of the lab stays."""
    found = steps(block.replace("/tmp/lab", str(folder)))
    assert found
    for words, shown in found:
        done = subprocess.run(
            ["bash", "-c", words], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{words}: {done.stderr}"
        if shown.startswith("{"):
            assert '"unbroken": true' in done.stdout, done.stdout
            assert '"disk_missing"' not in shown or '"disk_missing": 0' in done.stdout, done.stdout
        elif shown:
            assert done.stdout == shown
    assert not traces_of(folder)
    assert not folder.exists()


def test_every_command_is_documented_and_shown() -> None:
    """Each command is in the page's table and in one of its sessions, with each of its options and verbs."""
    table = {row[0]: row[1] for row in re.findall(r"^\| `([a-z.]+) ?(.*?)` \|", PAGE, re.MULTILINE)}
    commands = {file.name for file in COMMANDS.iterdir() if file.stat().st_mode & 0o100} - {"namespaces.sh"}
    assert commands <= table.keys()
    for name in commands:
        rows = " ".join(
            text for row, text in re.findall(r"^\| `([a-z.]+) ?(.*?)` \|", PAGE, re.MULTILINE) if row == name
        )
        shown = " ".join(words for words, _ in steps(SESSION + NETNS) if words.startswith(f"deploy/lab/{name}"))
        assert shown, name
        for word in re.findall(r"(?<!\w)--?[a-z]+|\b(?:kill|start|run|cut|heal|slow)\b", rows):
            assert word in shown or word == "--delay", f"{name} {word} is not shown"
