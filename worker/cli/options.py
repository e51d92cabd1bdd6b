"""The options of ``vmrelay migrate``: virsh's words, what each asks for, and the request they make.

Pure: from a parsed command line to the arguments of ``vmrelay.v1.migrate``. Source of the words and of the
sentences that refuse: ``tools/virsh-domain.c`` of libvirt 9.0.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from worker.cli.types import seconds
from worker.contract import Priority
from worker.hypervisors.convergence import StallAction
from worker.hypervisors.flags import MigrateFlag, parse_flags
from worker.hypervisors.params import PARAMS, ParamType

FILES = ("destination_xml", "persistent_xml")
PRIORITIES = [str(each) for each in Priority]
USUAL = ("live", "persist_dest", "undefine_source")
"""Flags that are set where nobody says otherwise; virsh sets none by itself."""
FIELDS = (
    "domain",
    "destination",
    "source",
    "flags",
    "deadline_seconds",
    "attempts",
    "on_stall",
    "postcopy_after_precopy",
    "priority",
    "requested_by",
    "reason",
)
"""Fields of a request that are what the option of that name says."""


def _text_of(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The text of a file."""
    try:
        return Path(value).read_text(encoding="utf-8") if value is not None else None
    except OSError as wrong:
        raise click.BadParameter(f"cannot read file '{value}': {wrong.strerror}", ctx, param) from None
    except UnicodeDecodeError:
        raise click.BadParameter(f"cannot read file '{value}': it is not UTF-8; save it so", ctx, param) from None


def _items_of(ctx: click.Context, param: click.Parameter, value: str | None) -> list[str] | None:
    """What stands between commas."""
    items = value.split(",") if value is not None else None
    if items is not None and not all(items):
        raise click.BadParameter("an item is empty; write them as a,b", ctx, param)
    return items


class SectionOption(click.Option):
    """An option that the help shows under a heading; a yes or no takes one line of it."""

    def __init__(self, *args: Any, section: str, **kwargs: Any) -> None:  # noqa: ANN401 - click's own signature
        super().__init__(*args, **kwargs)
        self.section = section

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """``--[no-]live`` for what can be switched on and off."""
        record = super().get_help_record(ctx)
        if record is None or not self.secondary_opts:
            return record
        return ", ".join(word.replace("--", "--[no-]", 1) for word in self.opts), record[1]


class SectionedCommand(click.Command):
    """A command with too many options for one list."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One list for each section, in the order in which they appear; the rest at the end."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                sections.setdefault(getattr(parameter, "section", "Options"), []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def _flag(word: str, flag: MigrateFlag, text: str, *aliases: str) -> dict[str, Any]:
    words = [f"--{each}/--no-{each}" for each in (word, *aliases)]
    return {"param_decls": [*words, f"flag_{flag.name.lower()}"], "default": None, "help": text}  # type: ignore[union-attr]


def _param(name: str, *aliases: str) -> dict[str, Any]:
    spec = PARAMS[name]
    more: dict[str, Any] = {"type": str if spec.type is ParamType.STRING else int}
    if name in FILES:
        more = {"metavar": "FILE", "callback": _text_of}
    elif spec.repeatable:
        more = {"metavar": "A,B,...", "callback": _items_of}
    text = f"{spec.meaning[0].upper()}{spec.meaning[1:]}."
    return {"param_decls": [spec.option, *aliases, f"param_{name.replace('.', '_')}"], "help": text} | more


def _other(*words: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"param_decls": words, **more}


def _no_uri(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None:
        raise click.UsageError("the destination is a host of the inventory, never a URI; see 'vmrelay hosts'", ctx)


def _host(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if "://" in value:
        _no_uri(ctx, param, value)
    return value


SECTIONS: Mapping[str, tuple[dict[str, Any], ...]] = {
    "What becomes of the domain": (
        _flag("live", MigrateFlag.LIVE, "Let the guest run while its memory is copied (on by default)."),
        _flag("offline", MigrateFlag.OFFLINE, "Move the definition only, of a domain that does not run."),
        _flag(
            "persistent", MigrateFlag.PERSIST_DEST, "Keep the domain's definition on the destination (on by default)."
        ),
        _flag("undefinesource", MigrateFlag.UNDEFINE_SOURCE, "Forget the domain on the source (on by default)."),
        _flag("suspend", MigrateFlag.PAUSED, "Leave the guest paused on the destination."),
        _param("destination_name"),
        _param("destination_xml"),
        _param("persistent_xml"),
        _flag("change-protection", MigrateFlag.CHANGE_PROTECTION, "Let nobody change the domain meanwhile."),
        _flag("unsafe", MigrateFlag.UNSAFE, "Move it even where its disks' caches make that unsafe."),
        _flag("abort-on-error", MigrateFlag.ABORT_ON_ERROR, "Give up on the guest's first I/O error."),
    ),
    "The way of the data": (
        _flag("p2p", MigrateFlag.PEER2PEER, "The source's daemon does it all; the destination needs a peer_uri."),
        _flag("tunnelled", MigrateFlag.TUNNELLED, "Through the daemons' connection; needs --p2p.", "tunneled"),
        _other("--direct", "flag_direct", is_flag=True, default=None, hidden=True),
        _other("--desturi", hidden=True, expose_value=False, callback=_no_uri),
        _param("migrate_uri"),
        _param("listen_address"),
        _param("graphics_uri"),
        _param("bandwidth"),
        _flag("parallel", MigrateFlag.PARALLEL, "Over several connections at once."),
        _param("parallel.connections"),
        _flag("zerocopy", MigrateFlag.ZEROCOPY, "Send pages without copying them first; needs --parallel."),
        _flag("rdma-pin-all", MigrateFlag.RDMA_PIN_ALL, "Lock all memory first; for rdma:// in --migrateuri."),
        _flag("tls", MigrateFlag.TLS, "Encrypt the data with the hypervisors' own certificates."),
        _param("tls.destination"),
    ),
    "Disks that the hosts do not share": (
        _flag("copy-storage-all", MigrateFlag.NON_SHARED_DISK, "Copy whole disks."),
        _flag("copy-storage-inc", MigrateFlag.NON_SHARED_INC, "Copy the top layers; both have the same base images."),
        _flag(
            "copy-storage-synchronous-writes",
            MigrateFlag.NON_SHARED_SYNCHRONOUS_WRITES,
            "Hold up the guest's writes until the destination has them; needs one of the two above.",
        ),
        _param("migrate_disks"),
        _param("disks_port"),
        _param("disks_uri"),
    ),
    "So that it comes to an end": (
        _other(
            "--timeout",
            type=seconds,
            metavar="SECONDS",
            help="Alone: wait so long at most (exit code 4), the migration goes on. With one of the next two: do that "
            "after so many seconds of perform, and waiting has no bound.",
        ),
        _other("--timeout-suspend", is_flag=True, help="When time is up, pause the guest until it has moved."),
        _other("--timeout-postcopy", is_flag=True, help="When time is up, switch to post-copy; needs --postcopy."),
        _other(
            "--on-stall",
            type=click.Choice([str(action) for action in StallAction]),
            help="What to do when memory is dirtied as fast as it is copied (default: [stall] of the settings).",
        ),
        _other(
            "--deadline", "deadline_seconds", type=seconds, metavar="SECONDS", help="Abort a perform that takes longer."
        ),
        _flag("auto-converge", MigrateFlag.AUTO_CONVERGE, "Slow the guest's CPUs down until copying keeps up."),
        _param("auto_converge.initial"),
        _param("auto_converge.increment"),
        _flag("postcopy", MigrateFlag.POSTCOPY, "Allow to switch to post-copy: 'vmrelay postcopy' does it."),
        _other("--postcopy-after-precopy", is_flag=True, help="Switch after the first round; needs --postcopy."),
        _param("bandwidth.postcopy", "--bandwidth-postcopy"),
        _flag("postcopy-resume", MigrateFlag.POSTCOPY_RESUME, "Go on with a broken post-copy; needs --postcopy."),
    ),
    "Compression": (
        _flag("compressed", MigrateFlag.COMPRESSED, "Compress memory."),
        *map(_param, (name for name in PARAMS if name.startswith("compression"))),
    ),
    "The request": (
        _other("--source", help="Host on which DOMAIN must be; looked up where not given."),
        _other(
            "--flags", help="A raw flag set, checked strictly: LIVE,PAUSED or 0x21. Excludes the single flags above."
        ),
        _other("--attempts", type=click.IntRange(1, 20), help="How often to try after transient failures."),
        _other("--priority", type=click.Choice(PRIORITIES), help="Whose turn it is where several wait (normal)."),
        _other("--requested-by", default="", help="Who asks, for the record; requests of one share their turns."),
        _other("--reason", default="", help="Why, for the record."),
    ),
    "What you see": (
        _other("--wait/--no-wait", default=None, help="Wait for the outcome (default: on a terminal)."),
        _other("--verbose", is_flag=True, help="Show progress also where standard error is no terminal; waits."),
    ),
}
"""The headings of the help, and the options below each."""


def parameters() -> list[click.Parameter]:
    """What ``vmrelay migrate`` takes, but for ``--output``."""
    found: list[click.Parameter] = [click.Argument(["domain"]), click.Argument(["destination"], callback=_host)]
    found += [SectionOption(section=title, **option) for title, options in SECTIONS.items() for option in options]
    return found


def request_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the task, from the values of the options.

    Raises ``click.UsageError`` with virsh's own sentence where they contradict each other.
    """
    check(given)
    options = {name[5:]: wish for name, wish in given.items() if name.startswith("flag_") and wish is not None}
    params = {name: value for name in PARAMS if (value := given[f"param_{name.replace('.', '_')}"]) is not None}
    if params.get("disks_port") == 0:
        del params["disks_port"]  # as virsh does: 0 is "any"
    request = {name: given[name] for name in FIELDS} | {"options": options, "params": params}
    if given["timeout_suspend"] or given["timeout_postcopy"]:
        action = StallAction.POSTCOPY if given["timeout_postcopy"] else StallAction.SUSPEND
        request |= {"timeout_seconds": given["timeout"], "on_timeout": str(action)}
    # 0 is a value, which the scheduler may refuse: dropped, it would mean "no limit".
    return {name: value for name, value in request.items() if value is not False and value not in (None, "", {})}


def wait_limit(given: Mapping[str, Any]) -> float | None:
    """For how long to wait: ``--timeout`` where it does not say what becomes of the guest."""
    acts = given["timeout_suspend"] or given["timeout_postcopy"]
    return None if acts else given["timeout"]


def _on(given: Mapping[str, Any], flag: str) -> bool:
    """Whether a flag will be set, as far as that can be told without the driver."""
    if given["flags"]:
        return bool(parse_flags(given["flags"]) & MigrateFlag[flag.upper()])
    wish: bool | None = given[f"flag_{flag}"]
    return flag in USUAL if wish is None else wish


_NEEDS = (
    ("postcopy_after_precopy", "postcopy", "--postcopy", "--postcopy-after-precopy"),
    ("flag_postcopy_resume", "postcopy", "--postcopy", "--postcopy-resume"),
    ("timeout_postcopy", "postcopy", "--postcopy", "--timeout-postcopy"),
    ("param_persistent_xml", "persist_dest", "--persistent", "--persistent-xml"),
    ("param_tls_destination", "tls", "--tls", "--tls-destination"),
)


def check(given: Mapping[str, Any]) -> None:
    """virsh's own tests of its options, in its order. Raises ``click.UsageError`` with its sentences."""
    for one, other in (("flag_live", "flag_offline"), ("timeout_suspend", "timeout_postcopy")):
        if given[one] and given[other]:
            words = [f"--{name.removeprefix('flag_').replace('_', '-')}" for name in (one, other)]
            raise click.UsageError(f"Options {' and '.join(words)} are mutually exclusive")
    for name, flag, needed, option in _NEEDS:
        if given[name] and not _on(given, flag):
            raise click.UsageError(f"Option {needed} is required by option {option}")
    if given["timeout_suspend"] or given["timeout_postcopy"]:
        if not given["timeout"]:
            raise click.UsageError("migrate: Unexpected --timeout-* option without --timeout")
        if not _on(given, "live") or _on(given, "offline"):
            raise click.UsageError("migrate: Unexpected timeout for offline migration")
    if given["flag_non_shared_synchronous_writes"] and not (
        given["flag_non_shared_disk"] or given["flag_non_shared_inc"]
    ):
        raise click.UsageError(
            "'--copy-storage-synchronous-writes' requires one of '--copy-storage-all', '--copy-storage-inc'"
        )
