"""The tutorial as a reader follows it: every command, in order, against ``vmrelay up``."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from up_lab import ROOT, Command, folder

from worker.embedded import free_port

TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
SECONDS = 240
"""Most of them go into moving guests that take their time."""
UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"


def commands(page: str = TUTORIAL) -> list[tuple[str, list[str]]]:
    """The commands of the ``console`` blocks of a page, each with the output that the page shows."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def plain(text: str) -> str:
    """Text without what differs from run to run: ids, numbers, line ends, blanks."""
    return re.sub(r"\s+", " ", re.sub(r"\d+(\.\d+)?", "0", re.sub(UUID, "ID", text)))


def shows(output: str, expected: list[str]) -> bool:
    """Whether all expected lines are in the output, in this order; ``…`` stands for anything."""
    parts = [part.strip() for line in expected for part in plain(line).split("…")]
    pattern = ".*".join(re.escape(part) for part in parts if part)
    return re.search(pattern, plain(output)) is not None


PORTS = {"6390": str(free_port()), "8080": str(free_port()), "5000": str(free_port())}
"""Those that the page names (Redis, web, Flask), and those that are free here."""


def here(text: str) -> str:
    """Text with this test's ports."""
    return re.sub(r"(?<=127\.0\.0\.1:)\d+", lambda port: PORTS[port[0]], text)


@pytest.fixture
def checkout() -> Iterator[Path]:
    """A folder with the files of a checkout that the tutorial uses; free ports, and a faster clock."""
    with folder() as directory:
        (directory / "deploy" / "demo").mkdir(parents=True)
        for name in ("deploy/examples", ".venv-examples"):
            (directory / name).symlink_to(ROOT / name)
        for name, pattern, value in (
            ("vmrelay.toml", r"127\.0\.0\.1:6390", here("127.0.0.1:6390")),
            ("deploy/demo/simulator.toml", r"clock_scale = \d+", "clock_scale = 60"),
        ):
            text, replaced = re.subn(pattern, value, (ROOT / name).read_text(encoding="utf-8"))
            assert replaced == 1, name
            (directory / name).write_text(text)
        yield directory


def script(directory: Path) -> str:
    """All commands for one shell, which keeps its variables; outputs go to numbered files."""
    steps = [
        f"{{ {here(command)}\n}} >{directory}/said-{number} 2>&1; code=$?; (exit $code)"
        for number, (command, _) in enumerate(commands())
    ]
    return "\n".join(steps)


@pytest.mark.timeout(SECONDS + 60)
def test_the_tutorial_says_what_happens(checkout: Path, warm_command: Path) -> None:
    """Each command of the tutorial exists and prints what the page shows."""
    environment = {
        **os.environ,
        "PATH": f"{warm_command.parent}:{os.environ['PATH']}",
        "COLUMNS": "200",
        "VMRELAY_CONFIG": "",
        "VMRELAY_WEB__PORT": PORTS["8080"],
        "FLASK_RUN_PORT": PORTS["5000"],
        "MOVES_DATABASE": f"{checkout}/moves.sqlite",
    }
    with Command(checkout, "up", "--exit-with-parent", environment=environment) as up:
        up.says("vmrelay is up: 3 hosts (alpha, beta, gamma)")
        shell = subprocess.Popen(
            ["bash", "-c", script(checkout)],
            cwd=checkout,
            env=environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            shell.wait(SECONDS)
        finally:
            with suppress(ProcessLookupError):  # what runs in its background, too
                os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
        assert up.stop() == 0
    for number, (command, expected) in enumerate(commands()):
        output = (checkout / f"said-{number}").read_text(encoding="utf-8")
        assert shows(output, expected), f"$ {command}\n{output}\nwas to show\n" + "\n".join(expected)


def test_the_tutorial_is_looked_at_closely() -> None:
    """The comparison finds what is missing, and in the wrong order, and passes over numbers."""
    assert shows("a 1.5 s\nb 2\n", ["a 7 s", "b 3"])
    assert not shows("b 2\na 1.5 s\n", ["a 7 s", "b 3"])
    assert not shows("a 1\n", ["b"])
    assert shows("pid 4 on node; stop", ["pid 9 on …; stop"])
    assert len(commands()) > 20
