"""``vmrelay demo --rebalance``: a lopsided fleet is balanced, two hosts are drained, and everything goes home."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.text import Text

from worker.cli.demo import ROOT, own_name, scratch
from worker.cli.demo_report import console, verdict
from worker.cli.exits import FAILED, MOVED
from worker.contract.plans import Goal, Plan, Problem
from worker.errors import SettingsError, Unavailable

Value = TypeVar("Value")
CONFIG = ROOT / "deploy" / "demo" / "lopsided.toml"
PINNED, ITS_HOST = "licence-1", "gamma"
"""A guest that a rule of the demo's settings keeps where it is."""
DRAINED = "beta"
LOADS_SECONDS = 60.0
"""How long agents may take until they have told what their guests use."""
STEP_SECONDS = "120"
"""How long each step may take on a slow machine; usually a few seconds."""


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest as its simulated host shows it."""

    name: str
    state: str
    boot_id: str


Places = Mapping[str, Sequence[Guest]]
"""The guests on each host, as the hosts themselves say."""


# -- decisions: pure ------------------------------------------------------------------------------------


def changed(before: Places, now: Places) -> list[str]:
    """What became of guests that must not: gone, twice there, started anew, stopped or let run."""
    wrong = []
    for old in (guest for guests in before.values() for guest in guests):
        found = [(host, guest) for host, guests in now.items() for guest in guests if guest.name == old.name]
        if len(found) != 1:
            wrong.append(f"{old.name} is on {', '.join(host for host, _ in found) or 'no host'}")
        elif found[0][1] != old:
            wrong.append(f"{old.name} was {old.state} and is {found[0][1].state}, or was started anew")
    return wrong


def moved(before: Places, now: Places) -> list[str]:
    """The guests that are not where they were."""
    was = {guest.name: host for host, guests in before.items() for guest in guests}
    return [guest.name for host, guests in now.items() for guest in guests if was.get(guest.name) != host]


def unbalanced(planned: Plan, again: Plan, before: Places, now: Places) -> list[str]:
    """What is not as the plan said, by a look at the hosts, and by planning anew on fresh loads."""
    wrong = [] if planned.totals.hot_before else ["no host was above its ceiling"]
    for step in planned.steps:
        if step.domain not in {guest.name for guest in now[step.destination]}:
            wrong.append(f"{step.domain} is not on {step.destination}")
    if len(moved(before, now)) != planned.totals.moves - planned.totals.bounces:
        wrong.append(f"{len(moved(before, now))} guests moved, the plan had {planned.totals.moves} moves")
    if again.totals.hot_after or again.totals.hot_before:
        wrong.append(f"{again.totals.hot_before} hosts are above their ceiling")
    if again.steps:
        wrong.append(f"another plan would move {len(again.steps)} guests")
    return wrong


def not_drained(host: str, now: Places, stay: Sequence[str], code: int, receipt: Mapping[str, Any]) -> list[str]:
    """What is not as a drain must leave it: only ``stay`` is on the host, and the receipt says just that."""
    there = sorted(guest.name for guest in now[host])
    wrong = [f"{host} has {', '.join(there) or 'nothing'}"] if there != sorted(stay) else []
    if code != (FAILED if stay else MOVED):
        wrong.append(f"the drain of {host} ended with code {code}")
    skipped = [(item["domain"], item["code"]) for item in receipt["items"] if item["state"] == "skipped"]
    if skipped != [(name, "pinned") for name in stay]:
        wrong.append(f"the receipt names {skipped} as skipped")
    if receipt["failed"] or receipt["moved"] != len(receipt["items"]) - len(stay):
        wrong.append(f"the receipt counts {receipt['moved']} moved and {receipt['failed']} failed")
    return wrong


# -- the run --------------------------------------------------------------------------------------------


def demo(keep: bool) -> int:
    """The whole demo; the exit code. Removes everything at the end, or with ``keep`` says how to use it."""
    from worker.cli.demo_relay import Relay, stopping, use
    from worker.embedded import free_port

    if not CONFIG.is_file():
        raise SettingsError(f"{CONFIG} is missing: it is part of the source, not of the wheel; run this in a checkout")
    if keep:
        return _kept()
    with scratch() as folder:
        use(CONFIG, folder, free_port())
        with stopping(Relay(folder, "--no-procfile", "--no-web", "--exit-with-parent")) as relay:
            wrong = _run()
            if wrong:
                click.echo(f"\nThe log ends with\n{relay.tail()}", err=True)
        return FAILED if wrong else MOVED


def _kept() -> int:
    from worker.cli.demo_relay import Relay, use
    from worker.settings import current

    use(CONFIG)
    relay = Relay(current().state_dir)
    try:
        relay.start()
        wrong = _run()
    except BaseException:
        relay.stop()
        raise
    click.echo(f"\nEverything stays up (pid {relay.pid}, log {relay.log}). Try:")
    for words in ("hosts --domains", "rebalance --dry-run --points 5", "drain alpha --dry-run", "batch list"):
        click.echo(f"  {own_name()} --config {_shown(CONFIG)} {words}")
    click.echo(f"Stop it, with a drain:\n  kill {relay.pid}")
    return FAILED if wrong else MOVED


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _run() -> list[str]:
    """Balance, drain, return; prints everything, and returns what is not as it must be."""
    from worker.cli.batch_watch import planned

    screen = console()
    first = look()
    count = sum(map(len, first.values()))
    screen.print(
        Text(f"Three simulated hosts and {count} guests, most of them on alpha; agents measure what they use.")
    )
    _await_loads()
    _command("rebalance", "--wait", "--timeout", STEP_SECONDS)
    batch = _newest("rebalance")
    plan = planned(batch, 0)
    balanced = look()
    wrong = changed(first, balanced)
    if plan is None:
        return verdict(screen, [*wrong, "there was no plan"], "")
    wrong += unbalanced(plan, _plan_again(), first, balanced)
    if not wrong:
        screen.print(Text("The hosts themselves say so, and another plan on fresh loads has nothing to move."))
    for host, stay in ((DRAINED, ()), (ITS_HOST, (PINNED,))):
        before = look()
        code = _command("drain", host, "--timeout", STEP_SECONDS)
        now = look()
        wrong += changed(first, now) + not_drained(host, now, stay, code, _receipt(_newest("drain")))
        screen.print(Text(f"{host}, as it says itself: {', '.join(guest.name for guest in now[host]) or 'empty'}"))
        code = _command("hosts", "return", host, "--timeout", STEP_SECONDS)
        wrong += [f"the return to {host} ended with code {code}"] if code else []
        wrong += [f"{name} is not home" for name in moved(before, look())]
    return verdict(
        screen,
        wrong + changed(first, look()),
        f"Balanced; {DRAINED} was empty and has its guests back; {PINNED} stayed on {ITS_HOST}, as its rule says; "
        "no guest was restarted.",
    )


def _command(*words: str) -> int:
    """Run a command as its user does; its exit code."""
    from worker.cli.main import cli

    click.echo(f"\n$ {own_name()} {' '.join(words)}")
    code: int | None = cli.main(list(words), prog_name="vmrelay", standalone_mode=False)
    return code or MOVED


def look() -> Places:
    """Every guest on every host, asked of the simulators themselves, now."""
    from worker.cli.up_plan import SIMULATED
    from worker.hypervisors.simulator.control import ask
    from worker.runtime import runtime

    found = {}
    for name, host in runtime().inventory.items():
        shown = ask(Path(host.settings.uri.removeprefix(SIMULATED)), "show")["vms"]
        found[name] = [Guest(vm["name"], vm["guest"], vm["boot_id"]) for vm in shown]
    return found


def _await(condition: Callable[[], Value | None], what: str) -> Value:
    """What a condition gives once it gives something. Raises ``Unavailable`` where that takes too long."""
    deadline = time.monotonic() + LOADS_SECONDS
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise Unavailable(f"{what}: not within {LOADS_SECONDS:g} s")
        time.sleep(0.1)
    return found


def _problem() -> Problem:
    """What a rebalance is planned for, now."""
    from worker import fleet, planning
    from worker.runtime import runtime

    parts = runtime()
    goal = planning.filled(Goal(kind="balance"), parts.settings.planning)
    return fleet.problem(parts.settings, parts.inventory, parts.journal, goal)


def _await_loads() -> None:
    """Wait until every agent has measured what its guests use for long enough to plan with it."""
    _await(lambda: not _problem().stale, "loads of all hosts")


def _plan_again() -> Plan:
    """A plan for balance on loads that were measured after now."""
    from worker import planning
    from worker.runtime import runtime

    began = runtime().journal.now()

    def fresh() -> Problem | None:
        found = _problem()
        return found if not found.stale and (found.taken or 0) > began else None

    return planning.make(_await(fresh, "fresh loads"))


def _newest(kind: str) -> str:
    from worker.runtime import runtime

    found = next((batch.id for batch in runtime().journal.batches() if batch.kind == kind), None)
    if found is None:
        raise Unavailable(f"there is no batch of kind {kind}")
    return found


def _receipt(ident: str) -> dict[str, Any]:
    from worker.cli.receipt import document
    from worker.runtime import runtime

    book = runtime().journal
    batch = book.batch(ident)
    assert batch is not None  # noqa: S101 - it has just ended, and is kept for days
    return document(batch, book.items(ident))
