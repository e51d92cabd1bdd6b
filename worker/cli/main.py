"""The ``vmrelay`` command: a client like any web application, and the starter of the processes.

Exit codes: 0 moved, 1 failed and the domain is safe on its source, 2 refused, 3 in doubt, 4 timed out
waiting, 130 interrupted (the migration goes on).
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from worker import starting
from worker.errors import RelayError

COMMANDS = {
    "migrate": "migrate",
    "cancel": "migrations",
    "resolve": "resolve",
    "retry": "resolve",
    "set-downtime": "tuning",
    "set-speed": "tuning",
    "postcopy": "tuning",
    "status": "migrations",
    "list": "migrations",
    "watch": "migrations",
    "rebalance": "rebalance",
    "batch": "batch",
    "plan": "plan",
    "hosts": "hosts",
    "limits": "limits",
    "drain": "drains",
    "rolling": "rolling",
    "doctor": "doctor",
    "flags": "flags",
    "check": "check",
    "recovery": "recovery",
    "agent": "processes",
    "scheduler": "processes",
    "web": "web",
    "web-token": "web",
    "webhook": "webhook",
    "targets": "targets",
    "seal-key": "processes",
    "up": "up",
    "demo": "demo",
    "simulator": "simulator",
}
"""Each command and the module of this package that holds it; only the one that is called is imported."""


class Commands(click.Group):
    """The group, with its commands imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command called so."""
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"worker.cli.{COMMANDS[name]}")
        command = getattr(module, name.replace("-", "_") if name != "list" else "list_")
        assert isinstance(command, click.Command)  # noqa: S101 - a slip in COMMANDS, caught by the first test
        return command

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own signature
        """Run; our errors become one line on standard error and an exit code."""
        try:
            return super().invoke(ctx)
        except RelayError as error:
            if os.environ.get("VMRELAY_DEBUG"):
                raise
            from worker.cli.exits import for_error
            from worker.hints import hint

            click.echo(f"error: {error} [{error.code}]", err=True)
            if way_out := hint(error.code, str(error)):
                click.echo(f"next: {way_out}", err=True)
            ctx.exit(for_error(error))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--config", type=click.Path(dir_okay=False), help="Configuration file (default: ./vmrelay.toml …).")
@click.version_option(package_name="vmrelay")
def cli(config: str | None) -> None:
    """Move running virtual machines between hosts.

    \b
    Examples:
      vmrelay demo                     see it work, on simulated hosts
      vmrelay migrate web-1 beta       move a domain to the host beta
      vmrelay list                     what moves, what waits, what ended
    """
    if config:
        from worker.settings import CONFIG_VARIABLE

        os.environ[CONFIG_VARIABLE] = config


def main() -> None:
    """Entry point of the command."""
    starting.begin()
    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as usage:
        usage.show()
        code = usage.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code or 0)


if __name__ == "__main__":
    main()
