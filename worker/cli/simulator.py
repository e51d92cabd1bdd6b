"""`vmrelay simulator`: simulated Virtuozzo hosts, and the faults they are to show."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from worker.errors import RelayError, SettingsError
from worker.hypervisors.simulator.codes import LOCKED_FOR
from worker.hypervisors.simulator.config import STATE_DIR_VARIABLE, load

CONFIG_VARIABLE = "VMRELAY_SIMULATOR_CONFIG"
PLACES = (Path("simulator.toml"), Path("deploy/demo/simulator.toml"))
Command = TypeVar("Command", bound=Callable[..., None])


class HostOrCommand(click.Group):
    """`simulator alpha` is short for `simulator run alpha`; errors of ours end with exit code 2."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See ``click.Group``."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            args = ["run", *args]
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """See ``click.Group``."""
        try:
            return super().invoke(ctx)
        except RelayError as error:
            raise _Refused(str(error)) from error


class _Refused(click.ClickException):
    exit_code = 2


def _common(command: Command) -> Command:
    config = click.option(
        "--config",
        envvar=CONFIG_VARIABLE,
        type=click.Path(dir_okay=False, path_type=Path),
        help=f"The simulator's TOML file [{CONFIG_VARIABLE}; else simulator_file of vmrelay's settings; else the "
        f"first of {', '.join(str(place) for place in PLACES)}].",
    )
    state_dir = click.option(
        "--state-dir",
        type=click.Path(file_okay=False, path_type=Path),
        help="Where sockets and virtual machines are kept [VMRELAY_SIMULATOR_STATE_DIR; else that of `vmrelay up` "
        "where the settings name the file; else the file's].",
    )
    return config(state_dir(command))


_output = click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table")


def _places(config: Path | None, state_dir: Path | None) -> tuple[Path, Path | None]:
    """The file and the state directory in force (``None``: the environment's, else the file's own)."""
    if config is not None:
        return config, state_dir
    from worker.settings import load as load_settings

    with suppress(SettingsError):
        settings = load_settings()
        if settings.simulator_file is not None:
            beside = None if os.environ.get(STATE_DIR_VARIABLE) else settings.state_dir / "simulator"
            return settings.simulator_file, state_dir or beside
    found = next((place for place in PLACES if place.exists()), None)
    if found is None:
        raise SettingsError(f"no simulator file: give --config FILE or set {CONFIG_VARIABLE}")
    return found, state_dir


def _ask(host: str, config: Path | None, state_dir: Path | None, action: str, **arguments: object) -> dict[str, Any]:
    from worker.hypervisors.simulator.control import ask

    return ask(load(*_places(config, state_dir)).socket_path(host), action, **arguments)


@click.group(cls=HostOrCommand, short_help="Simulated hosts: run, look at, break.")
def simulator() -> None:
    """Example: vmrelay simulator alpha --config deploy/demo/simulator.toml

    Simulated Virtuozzo hosts, one process for each: `vmrelay simulator HOST` runs one until it is
    stopped; the other commands look at a running one, change its virtual machines, and arm faults.
    """


@simulator.command("run")
@click.argument("host")
@_common
@click.option("--exit-with-parent", is_flag=True, help="Stop when the process that started this one ends.")
def run_command(host: str, config: Path | None, state_dir: Path | None, exit_with_parent: bool) -> None:
    """Example: vmrelay simulator run alpha --state-dir /tmp/sim

    Be the dispatcher of HOST until SIGTERM. `vmrelay simulator HOST` is the same.
    """
    from worker.hypervisors.simulator.__main__ import run

    run(host, *_places(config, state_dir), with_parent=exit_with_parent)


@simulator.command("show")
@click.argument("host")
@_common
@_output
def show_command(host: str, config: Path | None, state_dir: Path | None, output: str) -> None:
    """Example: vmrelay simulator show alpha -o json

    Virtual machines with state, boot id and heartbeat (the same boot id and a growing heartbeat prove
    that a guest was never restarted), running migrations, locks and armed faults of HOST.
    """
    shown = _ask(host, config, state_dir, "show")
    if output == "json":
        click.echo(json.dumps(shown))
        return
    table = Table(title=f"{host}: {shown['sessions']} sessions, {len(shown['faults'])} faults")
    for heading in ("name", "state", "memory MiB", "CPUs", "busy", "dirty MiB/s", "boots", "boot id", "heartbeat"):
        table.add_column(heading)
    for vm in shown["vms"]:
        table.add_row(
            vm["name"],
            vm["state"],
            str(vm["memory_mib"]),
            str(vm["cpus"]),
            f"{vm['cpu_percent']:g} %",
            f"{vm['dirty_mib_per_second']:g}",
            str(vm["boots"]),
            vm["boot_id"][:8],
            str(vm["heartbeat"]),
        )
    Console().print(table)


@simulator.command("fault")
@click.argument("host")
@_common
@click.option("--fail-next", type=click.IntRange(1), metavar="N", help="Fail the next N jobs with --code.")
@click.option("--code", metavar="0x…", help="The SDK's result code, e.g. 0x80000404.")
@click.option("--text", default="", help="The error's text.")
@click.option("--nested", multiple=True, metavar="0x…", help="A code inside the error; may be repeated.")
@click.option("--cut-link", is_flag=True, help="Cut the connection between the two dispatchers.")
@click.option("--drop-session", type=click.Choice(["source", "destination"]), help="Drop that client.")
@click.option("--drop-all-sessions", is_flag=True, help="Drop every client of HOST now.")
@click.option("--crash-at", type=click.IntRange(0, 12), metavar="STEP", help="Die, as with kill -9.")
@click.option("--delay", metavar="STEP:SECONDS", help="Wait that many simulated seconds.")
@click.option("--hang", type=click.IntRange(0, 12), metavar="STEP", help="Never go on.")
@click.option("--noise", is_flag=True, help="Send events twice, and unknown ones between.")
@click.option("--step", type=click.IntRange(1, 12), help="Step of the migration [what the code suggests].")
@click.option("--side", type=click.Choice(["source", "destination"]), help="HOST's role [source].")
@click.option("--op", default="", help="Strike at this request instead: get_vm_config, login, …")
@click.option("--vm", default="", help="Only for this virtual machine.")
@click.option("--count", type=click.IntRange(1), default=1, help="How often (not for --fail-next).")
@click.option("--after", type=click.IntRange(0), default=0, metavar="N", help="Let it pass N times first.")
@click.option("--clear", is_flag=True, help="Disarm all faults first.")
@click.option("--list", "list_them", is_flag=True, help="Print the armed faults.")
def fault_command(host: str, config: Path | None, state_dir: Path | None, **options: Any) -> None:  # noqa: ANN401
    """Example: vmrelay simulator fault alpha --fail-next 2 --code 0x80000404

    Arm faults on HOST: each strikes as a migration enters a step, as often as asked for. Prints what
    is armed.

    \b
    Steps: 1 request   2 lock           3 VM checked       4 connect, authorize
           5 target    6 its answer     7 announced        8 started on the target
           9 files    10 memory        11 finish          12 source lets go

    With --op a client's request is hit instead, so that an agent is held in a phase that only asks:
    `--op get_vm_config --vm web-1 --delay 0:30` holds the next look at web-1 on HOST (the step is 0).
    Each phase looks with get_vm_config and get_state, prepare on the destination by uuid and by name,
    perform on the source twice; lists of domains ask get_vm_list and get_state.
    """
    if options["clear"]:
        _ask(host, config, state_dir, "clear")
    if options["drop_all_sessions"]:
        _ask(host, config, state_dir, "drop-sessions")
    faults = _faults(options)
    if not (faults or options["clear"] or options["drop_all_sessions"] or options["list_them"]):
        raise click.UsageError("say which fault, or --clear, or --list")
    for fault in faults:
        _ask(host, config, state_dir, "fault", fault=fault)
    click.echo(json.dumps(_ask(host, config, state_dir, "faults")["faults"]))


def _faults(options: dict[str, Any]) -> list[dict[str, Any]]:
    """The faults that the options ask for, as the TOML file would write them."""
    common = {key: options[key] for key in ("step", "side", "op", "vm", "count", "after") if options[key]}
    faults: list[dict[str, Any]] = []
    if options["fail_next"]:
        if not options["code"]:
            raise click.UsageError("--fail-next needs --code 0x…")
        about = {key: options[key] for key in ("code", "text")} | {"nested": list(options["nested"])}
        faults.append({"kind": "fail", **common, **about, "count": options["fail_next"]})
    if options["cut_link"]:
        faults.append({"kind": "cut-link", **common})
    if options["drop_session"]:
        faults.append({"kind": "drop-session", **common, "side": options["drop_session"]})
    if options["crash_at"]:
        faults.append({"kind": "crash", **common, "step": options["crash_at"]})
    if options["hang"]:
        faults.append({"kind": "hang", **common, "step": options["hang"]})
    if options["noise"]:
        faults.append({"kind": "noise", **common})
    if options["delay"]:
        step, _, seconds = options["delay"].partition(":")
        try:
            faults.append({"kind": "delay", **common, "step": int(step), "seconds": float(seconds)})
        except ValueError as error:
            raise click.UsageError("--delay is STEP:SECONDS, as in 10:30") from error
    return faults


@simulator.command("vm")
@click.argument("host")
@click.argument("name")
@_common
@click.option("--state", type=click.Choice(["running", "paused", "stopped"]), help="Make it so.")
@click.option("--create", is_flag=True, help="Create it (running, unless --state).")
@click.option("--delete", is_flag=True, help="Forget it, whatever its state.")
@click.option("--uuid", help="With --create.")
@click.option("--memory", type=click.IntRange(1), default=1024, help="MiB, with --create.")
@click.option("--cpus", type=click.IntRange(1), default=2, help="With --create.")
@click.option("--cpu-percent", type=click.FloatRange(0, 100), help="How much of its CPUs it uses, with --create.")
@click.option("--dirty", type=click.FloatRange(0), default=10, help="MiB dirtied per second, with --create.")
@click.option("--lock", type=click.Choice(list(LOCKED_FOR)), help="Hold an exclusive operation on it.")
@click.option("--unlock", is_flag=True, help="Give the operation back.")
def vm_command(
    host: str,
    name: str,
    config: Path | None,
    state_dir: Path | None,
    **options: Any,  # noqa: ANN401
) -> None:
    """Example: vmrelay simulator vm alpha web-9 --create --memory 2048

    Create, change or forget the virtual machine NAME of HOST.
    """
    asked = False
    if options["create"]:
        asked = True
        wanted: dict[str, Any] = {
            "name": name,
            "memory_mib": options["memory"],
            "cpus": options["cpus"],
            "dirty_mib_per_second": options["dirty"],
            "state": options["state"] or "running",
        }
        if options["cpu_percent"] is not None:
            wanted["cpu_percent"] = options["cpu_percent"]
        if options["uuid"]:
            wanted["uuid"] = options["uuid"]
        _ask(host, config, state_dir, "vm-create", vm=wanted)
    elif options["state"]:
        asked = True
        _ask(host, config, state_dir, "vm-state", name=name, state=options["state"])
    if options["lock"] or options["unlock"]:
        asked = True
        _ask(host, config, state_dir, "vm-lock", name=name, operation=options["lock"] or "")
    if options["delete"]:
        asked = True
        _ask(host, config, state_dir, "vm-delete", name=name)
    if not asked:
        raise click.UsageError("say what: --create, --state, --delete, --lock or --unlock")
