"""``vmrelay migrate``: options named as ``virsh migrate`` names them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from worker.cli import client
from worker.cli.exits import TIMED_OUT
from worker.contract import MIGRATE
from worker.errors import Rejected
from worker.hypervisors.params import PARAMS, ParamType

FLAG_OPTIONS = {
    "live": "live",
    "offline": "offline",
    "p2p": "peer2peer",
    "tunnelled": "tunnelled",
    "persistent": "persist_dest",
    "undefinesource": "undefine_source",
    "suspend": "paused",
    "copy-storage-all": "non_shared_disk",
    "copy-storage-inc": "non_shared_inc",
    "copy-storage-synchronous-writes": "non_shared_synchronous_writes",
    "change-protection": "change_protection",
    "unsafe": "unsafe",
    "compressed": "compressed",
    "auto-converge": "auto_converge",
    "rdma-pin-all": "rdma_pin_all",
    "abort-on-error": "abort_on_error",
    "postcopy": "postcopy",
    "postcopy-resume": "postcopy_resume",
    "zerocopy": "zerocopy",
    "tls": "tls",
    "parallel": "parallel",
}
"""virsh's option for each flag."""

FILES = ("destination_xml", "persistent_xml")


def _key(prefix: str, name: str) -> str:
    return f"{prefix}_{name.replace('-', '_').replace('.', '_')}"


def _flag_options(command: Callable[..., None]) -> Callable[..., None]:
    for option, flag in reversed(FLAG_OPTIONS.items()):
        command = click.option(
            f"--{option}/--no-{option}", _key("flag", flag), default=None, help=f"VIR_MIGRATE_{flag.upper()}."
        )(command)
    return command


def _param_options(command: Callable[..., None]) -> Callable[..., None]:
    for spec in reversed(list(PARAMS.values())):
        kind: Any = str if spec.type is ParamType.STRING else int
        if spec.name in FILES:
            kind = click.Path(exists=True, dir_okay=False, path_type=Path)
        command = click.option(spec.option, _key("param", spec.name), type=kind, help=f"{spec.meaning.capitalize()}.")(
            command
        )
    return command


@click.command(short_help="Move a domain to another host.")
@click.argument("domain")
@click.argument("destination")
@click.option("--source", help="Host on which DOMAIN must be; looked up where not given.")
@click.option("--flags", help="A raw flag set, checked strictly: LIVE,PAUSED or 0x21. Excludes the single flags.")
@_flag_options
@_param_options
@click.option("--deadline", type=float, metavar="SECONDS", help="Abort a perform that takes longer.")
@click.option("--attempts", type=click.IntRange(1, 20), help="How often to try after transient failures.")
@click.option("--requested-by", default="", help="Who asks, for the record.")
@click.option("--reason", default="", help="Why, for the record.")
@click.option("--wait/--no-wait", default=None, help="Wait for the outcome (default: on a terminal).")
@click.option("--timeout", type=float, metavar="SECONDS", help="Wait so long at most; the migration goes on.")
@client.output
@click.pass_context
def migrate(
    ctx: click.Context,
    /,
    domain: str,
    destination: str,
    source: str | None,
    flags: str | None,
    deadline: float | None,
    attempts: int | None,
    requested_by: str,
    reason: str,
    wait: bool | None,
    timeout: float | None,
    output: str,
    **wishes: Any,  # noqa: ANN401 - one for each generated option
) -> None:
    """Move DOMAIN to the host DESTINATION.

    \b
    Examples:
      vmrelay migrate web-1 beta                     with the driver's defaults
      vmrelay migrate web-1 beta --suspend --wait    leave it paused there
      vmrelay migrate web-1 beta --dname web-one -o json --wait

    Exit codes: 0 moved (or enqueued, with --no-wait), 1 failed and safe on its source, 2 refused,
    3 in doubt, 4 timed out waiting, 130 interrupted (the migration goes on).
    """
    arguments = {
        "domain": domain,
        "destination": destination,
        "source": source,
        "flags": flags,
        "options": _given(wishes, "flag", FLAG_OPTIONS.values()),
        "params": _params(wishes),
        "deadline_seconds": deadline,
        "attempts": attempts,
        "requested_by": requested_by,
        "reason": reason,
    }
    client.journal()
    ident = client.enqueue(MIGRATE, {name: value for name, value in arguments.items() if value not in (None, "", {})})
    waits = wait if wait is not None else sys.stderr.isatty()
    record = client.await_record(ident)
    if record is None:
        click.echo(f"{ident}\nqueued; no scheduler has taken it yet, is one running? (vmrelay doctor)", err=True)
        ctx.exit(TIMED_OUT if waits else 0)
    if record.outcome == "rejected":
        if output == "json":
            client.as_json(record.document())
        raise Rejected(record.error, code=record.reason)
    if not waits:
        client.as_json(record.document()) if output == "json" else click.echo(ident)
        return
    from worker.cli.progress import wait_for

    ctx.exit(wait_for(ident, timeout, output))


def _given(wishes: dict[str, Any], prefix: str, names: Iterable[str]) -> dict[str, Any]:
    return {name: wishes[_key(prefix, name)] for name in names if wishes[_key(prefix, name)] is not None}


def _params(wishes: dict[str, Any]) -> dict[str, Any]:
    given = _given(wishes, "param", PARAMS)
    for name, value in given.items():
        if isinstance(value, Path):
            given[name] = value.read_text(encoding="utf-8")
        elif PARAMS[name].repeatable:
            given[name] = [item for item in value.split(",") if item]
    return given
