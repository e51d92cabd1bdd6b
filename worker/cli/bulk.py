"""What commands that make a batch have in common: its options, and asking for it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from worker.cli import client
from worker.cli.options import SECTIONS, parameters, request_of
from worker.contract import Priority

BATCH_HAS = ("domain", "destination", "source", "priority", "requested_by", "reason", "timeout", "wait", "output")
"""Of a batch, what these options say is said of the batch itself."""
ONE_DOMAIN = (
    "destination_name", "destination_xml", "persistent_xml", "migrate_uri", "graphics_uri", "listen_address",
    "migrate_disks", "disks_uri", "disks_port", "tls.destination",
)  # fmt: skip
"""Parameters that make sense for one domain or one host only, not for every migration of a batch."""
WHOLE_BATCH = ("The request", "What you see")
"""Sections of which a batch has its own, but for ``--flags`` and ``--attempts``."""
EPILOG = (
    "Every migration of it takes the flags and parameters of 'vmrelay migrate' that are not about one domain: "
    "--flags, --attempts, --bandwidth, --auto-converge, --on-stall, --copy-storage-all and so on."
)
"""The end of the help of a command with these options, which the help does not list."""
Command = TypeVar("Command", bound=Callable[..., Any])

OPTIONS = (
    click.option("--batch", "--id", metavar="ID", help="The batch's id. The same id again is the same batch."),
    click.option(
        "--priority", type=click.Choice([str(each) for each in Priority]), default="normal", show_default=True
    ),
    click.option("--hold", is_flag=True, help="Plan, and wait for 'vmrelay batch resume' before anything moves."),
    click.option("--requested-by", default="", help="Who asks, for the record."),
    click.option("--reason", default="", help="Why, for the record."),
)


def shared_options() -> list[dict[str, Any]]:
    """The options that say the same for every migration of a batch, as ``click.Option`` takes them."""
    own = {f"param_{name.replace('.', '_')}" for name in ONE_DOMAIN}
    found = [option for title, options in SECTIONS.items() if title not in WHOLE_BATCH for option in options]
    found += [option for option in SECTIONS["The request"] if option["param_decls"][0] in ("--flags", "--attempts")]
    return [
        option
        for option in found
        if option.get("expose_value", True)
        and not own.intersection(option["param_decls"])
        and not option["param_decls"][0].startswith("--timeout")
    ]


def migration_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """What these options ask of every migration: the field ``migration`` of a request for a batch.

    Raises ``click.UsageError`` where they contradict each other.
    """
    every = dict.fromkeys((str(parameter.name) for parameter in parameters()), None)
    asked = {name: given[name] for name in every if name in given and name not in BATCH_HAS}
    return request_of(every | asked)


def bulk_options(command: Command) -> Command:
    """Add the options of every batch, and those of its migrations; ``bulk_arguments`` reads them."""
    for option in reversed([*OPTIONS, *(_hidden(option) for option in shared_options())]):
        command = option(command)
    return command


def _hidden(option: dict[str, Any]) -> Callable[[Command], Command]:
    words = option["param_decls"]
    more = {name: value for name, value in option.items() if name != "param_decls"}
    return click.option(*words, **more | {"hidden": True})


def bulk_arguments(options: dict[str, Any]) -> dict[str, Any]:
    """The fields that every bulk request has, from a parsed command line. Pure."""
    migration = migration_of(options)
    fields = {name: options.get(name) for name in ("batch", "priority", "hold", "requested_by", "reason")}
    return {name: value for name, value in fields.items() if value} | ({"migration": migration} if migration else {})


def begun(task: str, arguments: dict[str, Any]) -> str:
    """Ask for a batch, and wait until there is one: its id.

    Raises ``Rejected`` with the scheduler's own code, ``Unavailable`` where none takes the request.
    """
    client.journal()
    ident = str(arguments.get("batch") or f"b-{uuid.uuid4().hex[:12]}")
    # The task has an id of its own: under the batch's, nothing would be answered before the batch is over.
    answer = client.ask(task, arguments | {"batch": ident})
    if answer["answer"] == "same":
        click.echo(f"there is this batch already: {ident} ({answer['state']}); nothing is done twice", err=True)
    return ident
