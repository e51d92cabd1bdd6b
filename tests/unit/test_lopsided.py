"""The lopsided demo fleet: its settings and its simulated hosts belong together, and there is something to balance."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from worker.cli import up_plan
from worker.fleet.rules import Guest, apply
from worker.hypervisors.simulator.config import load as load_simulator
from worker.inventory import Inventory
from worker.runtime import assemble
from worker.settings import CONFIG_VARIABLE, RuleSettings, Settings, load

DEMO = Path(__file__).parents[2] / "deploy" / "demo"


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """As ``vmrelay --config deploy/demo/lopsided.toml`` reads them."""
    monkeypatch.setenv(CONFIG_VARIABLE, str(DEMO / "lopsided.toml"))
    monkeypatch.delenv("VMRELAY_STATE_DIR", raising=False)
    return load()


def test_up_can_start_it(settings: Settings) -> None:
    """Every host has its simulator, where its URI says; the folder of its state has no detours."""
    children = up_plan.simulators(assemble(settings))
    assert {child.name for child in children} == {"simulator-alpha", "simulator-beta", "simulator-gamma"}
    assert ".." not in settings.state_dir.parts


def test_most_is_on_alpha_and_every_rule_finds_its_guests(settings: Settings) -> None:
    """Alpha has more memory and CPU in use than both others together, and fits its host; no rule is idle."""
    assert settings.simulator_file is not None
    simulated = load_simulator(settings.simulator_file)
    memory = dict.fromkeys(simulated.hosts, 0)
    cores = dict.fromkeys(simulated.hosts, 0.0)
    for vm in simulated.vms:
        memory[vm.host] += vm.memory_mib
        cores[vm.host] += vm.cpus * vm.cpu_percent / 100
    assert memory["beta"] + memory["gamma"] < memory["alpha"] < simulated.hosts["alpha"].memory_mib
    assert cores["beta"] + cores["gamma"] < cores["alpha"] < simulated.hosts["alpha"].cpus
    applied = apply(settings.rules, [Guest(vm.name, vm.name) for vm in simulated.vms], Inventory(settings))
    assert [rule.guests for rule in applied.rules] == [("db-1", "db-2")]
    assert applied.pinned == {"licence-1": "its licence is bound to this host"}


@pytest.mark.parametrize("kind", ["among", "requires"])
def test_a_rule_without_its_other_half_is_refused(kind: str) -> None:
    """A rule that could keep nothing is a mistake in the settings, told when they are read."""
    with pytest.raises(ValidationError, match="needs"):
        RuleSettings.model_validate({"domains": ["web"], "kind": kind})
