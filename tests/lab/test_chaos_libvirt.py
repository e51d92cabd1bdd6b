"""A few cells of ``make chaos-libvirt``, and what a guest's heart and the journal are read as."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from chaos.cells import Cell, When
from chaos.libvirt_cells import SLICE, End, Trouble, end_of, libvirt
from chaos.libvirt_heart import reported_seconds

ROOT = Path(__file__).parents[2]
CELLS = ("both-agents/perform/after", "source-libvirtd/perform/during")
"""Of the slice: where the guest stands still and nobody is left, and where the copying ends with its daemon."""


@pytest.mark.lab
@pytest.mark.netns
@pytest.mark.timeout(400)
def test_a_slice_of_the_matrix() -> None:
    """Agents and a daemon are killed: each time the guest runs on, in one place."""
    command = [sys.executable, "-m", "chaos.libvirt", "--stages", "1", "--patience", "60"]
    for name in CELLS:
        command += ["--only", name]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            out, _ = process.communicate(timeout=380)
        except BaseException:
            process.terminate()  # it removes its lab
            raise
    assert process.returncode == 0, out
    figures = json.loads(out.splitlines()[-1])
    assert (figures["cells"], figures["failed"]) == (len(CELLS), 0)
    assert 0 <= figures["settle_seconds"]["p50"] <= figures["settle_seconds"]["max"]


def test_every_cell_has_a_name_of_its_own() -> None:
    """At least forty cells, and the slice is part of them."""
    names = [cell.name for cell in libvirt()]
    assert len(names) == len(set(names)) >= 40
    assert set(CELLS) < set(SLICE) <= set(names)


@pytest.mark.parametrize(
    ("trouble", "hop", "when", "end"),
    [
        (Trouble.SOURCE_QEMU, "prepare", When.AFTER, End.DIED),
        (Trouble.SOURCE_QEMU, "perform", When.DURING, End.DIED),
        (Trouble.SOURCE_QEMU, "perform", When.AFTER, End.ONE_PLACE),
        (Trouble.SOURCE_QEMU, "finish", When.DURING, End.ONE_PLACE),
        (Trouble.DESTINATION_QEMU, "perform", When.AFTER, End.ONE_PLACE),
        (Trouble.DESTINATION_QEMU, "finish", When.DURING, End.ONE_PLACE),
        (Trouble.DESTINATION_QEMU, "finish", When.AFTER, End.DIED_THERE),
        (Trouble.BOTH_AGENTS, "finish", When.DURING, End.ONE_PLACE),
    ],
)
def test_only_a_guest_that_was_killed_where_it_was_whole_dies(trouble: Trouble, hop: str, when: When, end: End) -> None:
    """Once all of it was copied it outlives its source; before finish it outlives its destination."""
    assert end_of(Cell(trouble, hop, when)) is end


def _event(at: float, kind: str, **data: Any) -> tuple[str, str, dict[str, Any]]:
    return f"{int(at * 1000)}-0", kind, data


@pytest.mark.parametrize(
    ("events", "seconds"),
    [
        ([], 0.0),
        ([_event(1, "phase", phase="perform"), _event(3, "phase-ended", phase="perform")], 0.0),
        (
            [
                _event(1, "phase", phase="perform"),
                _event(3, "phase-ended", phase="perform"),
                _event(3.5, "phase-ended", phase="finish"),
                _event(9, "ended"),
            ],
            0.5,
        ),
        ([_event(1, "phase", phase="perform"), _event(2, "recovering"), _event(7, "backoff"), _event(9, "ended")], 6.0),
        (
            [
                _event(1, "phase", phase="perform"),
                _event(3, "phase-ended", phase="perform"),
                _event(4, "phase-ended", phase="finish", error="x"),
                _event(5, "ended"),
            ],
            2.0,
        ),
    ],
)
def test_how_long_a_guest_may_have_stood_still(events: list[tuple[str, str, dict[str, Any]]], seconds: float) -> None:
    """From perform's good end to finish's; where one of them is not known, from perform's beginning, to the end."""
    assert reported_seconds(events) == pytest.approx(seconds)
