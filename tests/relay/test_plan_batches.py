"""`vmrelay rebalance` and plans as batches, on hosts that are lopsided."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from relay_lab import Relay, until

from worker import fleet
from worker.contract.plans import Plan
from worker.inventory import Inventory
from worker.settings import load

GUEST_MIB, GUESTS = 120_000, 6
"""Of a million MiB that a host has."""


@pytest.fixture
def lopsided(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    """Six guests, all of them on alpha, and the loads of the hosts measured."""
    relay.empty()
    for name in [relay.vm(memory_mib=GUEST_MIB) for _ in range(GUESTS)]:
        assert list(relay.where(name)) == ["alpha"]
    monkeypatch.setenv("VMRELAY_CONFIG", relay.environment["VMRELAY_CONFIG"])
    settings = load()

    def measured() -> bool:
        seen = fleet.take(relay.journal, Inventory(settings)).hosts
        return all(host.load is not None for host in seen.values()) and len(seen["alpha"].domains) == GUESTS

    until(measured, "loads of all hosts", pause=0.2)
    yield relay
    relay.empty()


def test_a_plan_is_looked_at_run_refused_when_outdated_and_held(lopsided: Relay) -> None:
    """A dry run moves nothing; its JSON runs as a batch; once run it is outdated; --hold waits for a word."""
    relay, file = lopsided, lopsided.directory / "plan.json"
    dry = relay.cli("rebalance", "--dry-run", "--points", "12", "-o", "json")
    assert dry.returncode == 0, dry
    plan = Plan.model_validate_json(dry.stdout)
    assert plan.steps
    assert all(relay.where(step.domain) == {"alpha": "running"} for step in plan.steps)
    file.write_text(dry.stdout)
    done = relay.cli("batch", "run", str(file), "--id", "planned", "--wait")
    assert done.returncode == 0, done
    assert f"planned (plan) finished: {len(plan.steps)} moved, 0 failed, 0 skipped" in done.stdout
    assert all(relay.where(step.domain) == {step.destination: "running"} for step in plan.steps)
    again = relay.cli("batch", "run", str(file), "--id", "outdated", "--wait")
    assert (again.returncode, "[plan-outdated]" in again.stderr) == (2, True), again
    assert "next: plan again, or say --on-change replan" in again.stderr
    held = relay.cli("rebalance", "--consolidate", "--hold", "--id", "held")
    assert held.returncode == 0, held
    assert "as few hosts in use as possible" in held.stdout
    assert "vmrelay batch resume held" in held.stderr
    assert json.loads(relay.cli("batch", "show", "held", "-o", "json").stdout)["moved"] == 0
    resumed = relay.cli("batch", "resume", "held", "--wait")
    assert resumed.returncode == 0, resumed
    used = {host for host in ("alpha", "beta", "gamma") if relay.ask(host, "show")["vms"]}
    assert len(used) == 1
