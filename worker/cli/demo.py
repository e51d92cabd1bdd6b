"""``vmrelay demo``: see it work, on simulated hosts or on real libvirt."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from worker.cli.exits import FAILED
from worker.errors import SettingsError

ROOT = Path(__file__).resolve().parents[2]
"""The checkout: the demo's inventory and hosts are not part of the wheel."""


@click.command(short_help="See it work.")
@click.option("--keep", is_flag=True, help="Leave everything up, and say how to use it.")
@click.option("--libvirt", is_flag=True, help="Two real libvirt hosts and QEMU guests (deploy/lab/install first).")
@click.option("--drain", is_flag=True, help="With --libvirt: three hosts, of which one is drained and gets them back.")
@click.option("--rebalance", is_flag=True, help="A lopsided fleet of simulated hosts is balanced, hosts are drained.")
@click.pass_context
def demo(ctx: click.Context, keep: bool, libvirt: bool, drain: bool, rebalance: bool) -> None:
    """Migrate several virtual machines at once between three simulated hosts.

    \b
    Examples:
      vmrelay demo              ends with the outcome and the metrics, and leaves nothing behind
      vmrelay demo --keep       leaves everything up and says how to use it
      vmrelay demo --libvirt    real guests, there and back, between two real libvirt hosts
      vmrelay demo --rebalance  a lopsided fleet is balanced, hosts are drained and returned to
      vmrelay demo --libvirt --drain    twelve real guests on three hosts, of which one is drained

    Exit code 0 where every virtual machine is where it must be and was never restarted, else 1.
    """
    from worker.cli.demo_relay import signals_unwind

    if drain and (keep or not libvirt):
        raise click.UsageError("--drain goes with --libvirt, and not with --keep")
    with signals_unwind():
        if drain:
            from worker.cli import demo_drain

            ctx.exit(demo_drain.demo())
        if libvirt:
            from worker.cli import demo_libvirt

            ctx.exit(demo_libvirt.demo(keep))
        if rebalance:
            from worker.cli import demo_rebalance

            ctx.exit(demo_rebalance.demo(keep))
        ctx.exit(_kept() if keep else _passing())


# -- with and without --keep ------------------------------------------------------------------------


def _passing() -> int:
    """Everything private to this run: a folder and a port that nobody else has."""
    from worker.cli.demo_relay import Relay, stopping, use
    from worker.cli.demo_run import run
    from worker.embedded import free_port

    config = _config()
    with scratch() as folder:
        use(config, folder, free_port())
        with stopping(Relay(folder, "--no-procfile", "--no-web", "--exit-with-parent")) as relay:
            wrong = run()
            if wrong:
                click.echo(f"\nThe log ends with\n{relay.tail()}", err=True)
        return FAILED if wrong else 0


def _kept() -> int:
    from worker.cli.demo_relay import Relay, use
    from worker.cli.demo_run import run
    from worker.cli.up_lock import holder
    from worker.settings import current

    use(_config())
    state_dir = current().state_dir
    found = holder(state_dir)
    if found and found.ready:
        click.echo(f"vmrelay is up already (pid {found.pid}, {state_dir}); the demo uses it")
        relay, pid = None, found.pid
    else:
        relay = Relay(state_dir)
    try:
        if relay:
            relay.start()
            pid = relay.pid
        wrong = run()
    except BaseException:
        if relay:
            relay.stop()
        raise
    _say_how_to_use_it(pid)
    return FAILED if wrong else 0


@contextmanager
def scratch() -> Iterator[Path]:
    """A new folder that is removed at the end, however that comes."""
    folder = Path(tempfile.mkdtemp(prefix="vmrelay-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _config() -> Path:
    """The demo's inventory. Raises ``SettingsError`` where it is not there or names real hosts."""
    from worker.settings import CONFIG_VARIABLE, load

    config = Path(os.environ.get(CONFIG_VARIABLE) or ROOT / "vmrelay.toml").absolute()
    if not config.is_file():
        raise SettingsError(
            f"the demo's inventory {config} is missing: it is part of the source, not of the wheel; "
            "run 'vmrelay demo' from a checkout ('make demo')"
        )
    os.environ[CONFIG_VARIABLE] = str(config)
    settings = load()
    if not (settings.simulator_file and settings.embedded_redis and settings.hosts) or any(
        not host.uri.startswith("vzsim://") for host in settings.hosts.values()
    ):
        raise SettingsError(
            f"{config} is no inventory for the demo, which moves simulated machines only; unset {CONFIG_VARIABLE}"
        )
    return config


def _say_how_to_use_it(pid: int) -> None:
    from worker.cli.demo_report import metrics_urls
    from worker.runtime import runtime
    from worker.settings import CONFIG_VARIABLE

    parts, config = runtime(), Path(os.environ[CONFIG_VARIABLE])
    in_force = config.parent.samefile(Path.cwd()) and config.name == "vmrelay.toml"
    command = own_name() + ("" if in_force else f" --config {config}")
    here = next(iter(parts.journal.find_domain("web-1", parts.inventory)), "alpha")
    there = "beta" if here == "alpha" else "alpha"
    lines = [
        ("hosts --domains", "which domain runs where"),
        (f"migrate web-1 {there} --wait", "move one, with progress"),
        (f"migrate web-1 {here} --suspend --no-wait", "prints the migration's id"),
        ("list", "what moved, what moves"),
        ("watch ID", "follow one; status ID, cancel ID"),
        ("simulator fault alpha --fail-next 2 --code 0x80000404", "let the next two jobs fail"),
        ("simulator show beta", "what a simulated host says itself"),
    ]
    click.echo(f"\nEverything stays up (pid {pid}, log {parts.settings.state_dir / 'up.log'}). Try:")
    for arguments, meaning in lines:
        click.echo(f"  {command} {arguments:<55} # {meaning}")
    for name, url in metrics_urls(parts.settings, parts.journal).items():
        click.echo(f"  curl {url:<40} # metrics of {name}")
    if url := page_at(parts.settings.state_dir / "up.log"):
        click.echo(f"  {url:<{len(command) + 56}} # the live page; the API is below {url}v1/")
    click.echo(f"Stop it, with a drain:\n  kill {pid}")


def page_at(log: Path) -> str:
    """Where the page is, as the relay said when it was up; empty where it serves none."""
    said = log.read_text(errors="replace") if log.exists() else ""
    found = re.search(r"vmrelay is up: .*, page and API at (\S+/)", said)
    return found[1] if found else ""


def own_name() -> str:
    """How the user calls this program from here."""
    from worker.cli.up_plan import own_command

    words = own_command()
    script = Path(words[0])
    if len(words) > 1:
        return "vmrelay"
    if shutil.which("vmrelay") == str(script):
        return "vmrelay"
    return str(script.relative_to(Path.cwd())) if script.is_relative_to(Path.cwd()) else str(script)
