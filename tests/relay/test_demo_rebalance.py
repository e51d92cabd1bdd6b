"""``vmrelay demo --rebalance``, run as a user runs it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from up_lab import ROOT, Command, folder, processes

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def faster(tmp_path: Path) -> Path:
    """The demo's hosts and guests, with a faster clock: there is nobody who watches."""
    text = (ROOT / "deploy/demo/lopsided-simulator.toml").read_text(encoding="utf-8")
    text, replaced = re.subn(r"^clock_scale = \d+", "clock_scale = 200", text, flags=re.MULTILINE)
    assert replaced == 1
    file = tmp_path / "simulator.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_lopsided_fleet_is_balanced_drained_and_comes_back(faster: Path) -> None:
    """Exit 0; the plan, the receipts, the pinned guest's reason and the hosts' own word; nothing is left behind."""
    environment = {
        "VMRELAY_CONFIG": str(ROOT / "vmrelay.toml"),
        "VMRELAY_SIMULATOR_FILE": str(faster),
        "NO_COLOR": "1",
    }
    with (
        folder() as directory,
        Command(directory, "demo", "--rebalance", environment=environment | {"TMPDIR": str(directory)}) as command,
    ):
        assert command.ends() == 0, command.output
        said = command.output
        assert [item.name for item in directory.iterdir() if not item.name.startswith("out-")] == []
        assert processes(directory) == {}
    for wanted in (
        "goal       every host at most 10 points above the mean",
        "status     proved optimal",
        "hot hosts  1 → 0",
        "(rebalance) finished: ",
        "The hosts themselves say so, and another plan on fresh loads has nothing to move.",
        "(drain beta) finished: ",
        "beta, as it says itself: empty",
        "(return beta) finished: ",
        "its licence is bound to this host [pinned]",
        "gamma, as it says itself: licence-1",
        "(return gamma) finished: ",
        "no guest was restarted",
    ):
        assert wanted in said, said
    assert "WRONG" not in said
    assert "\x1b[" not in said
