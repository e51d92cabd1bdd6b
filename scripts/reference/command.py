"""The command line, as ``--help`` shows it."""

from __future__ import annotations

from collections.abc import Iterator

import click
from page import code, described_module, page, table

from worker.cli import exits
from worker.cli.main import cli as group

WIDTH = 100


def cli() -> str:
    """``docs/reference/cli.md``."""
    parts = [f"## {name}\n\n```text\n{text}\n```" for name, text in _helps(group, "vmrelay", None)]
    return page(
        "Command line",
        "worker/cli/",
        "`vmrelay` finds its settings as [settings.md](settings.md) says; `--config FILE` comes before the command. "
        "Progress bars show on a terminal only, `NO_COLOR` is honoured, `-o json` prints one JSON document.",
        exit_codes(),
        *parts,
    )


def exit_codes() -> str:
    """The exit codes as a section."""
    rows = [[getattr(exits, name), _word(name), text] for name, text in described_module(exits).items()]
    return "## Exit codes\n\n" + table(["code", "word", "meaning"], rows)


def _word(name: str) -> str:
    return code(name.lower().replace("_", " "))


def _helps(command: click.Command, name: str, parent: click.Context | None) -> Iterator[tuple[str, str]]:
    context = click.Context(command, info_name=name, parent=parent, terminal_width=WIDTH, max_content_width=WIDTH)
    context.help_option_names = ["-h", "--help"]
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            if found is None:
                raise LookupError(below)
            yield from _helps(found, below, context)
