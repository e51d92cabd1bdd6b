"""The pictures of the live page, and what they are taken of."""

from __future__ import annotations

import importlib.util
import struct
from pathlib import Path

import pytest

from worker.hypervisors.simulator.config import load as load_simulator
from worker.settings import CONFIG_VARIABLE, load

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("pictures", ROOT / "deploy" / "demo" / "pictures.py")
assert spec is not None
assert spec.loader is not None
pictures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pictures)


def test_the_scene_is_one_that_can_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its settings and its simulator's file are valid, and every guest fits its host."""
    monkeypatch.setenv(CONFIG_VARIABLE, str(pictures.settings(tmp_path)))
    settings = load()
    assert tuple(settings.hosts) == pictures.HOSTS
    assert settings.simulator_file is not None
    simulated = load_simulator(settings.simulator_file)
    assert len(simulated.vms) == pictures.GUESTS
    for name, host in simulated.hosts.items():
        assert sum(vm.memory_mib for vm in simulated.vms if vm.host == name) <= host.memory_mib, name


def test_the_scene_has_whom_it_moves() -> None:
    """There is a guest for each thing that the pictures show."""
    found = {(host, name.partition("-")[0]) for name, host, _, _ in pictures.guests()}
    wanted = {("ams-04", "db")} | {(source, "db") for source, _, _ in pictures.WISHES[:2]}
    assert wanted <= found
    assert {"ams-03", "ams-05", "ams-06"} <= {host for host, _ in found}


@pytest.mark.parametrize("name", ["page-light.png", "page-dark.png"])
def test_pictures_are_small(name: str) -> None:
    """A reader of the README loads less than 200 KiB for each; `make screenshot` makes them anew."""
    raw = (ROOT / "docs" / "pictures" / name).read_bytes()
    assert raw[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", raw[16:24]) == (pictures.WIDTH, pictures.HEIGHT)
    assert len(raw) < 200 * 1024
