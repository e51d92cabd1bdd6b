"""``vmrelay up``: everything that the inventory and the Procfile name, on this machine, supervised."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import click


@click.command(short_help="Start everything on this machine.")
@click.option(
    "--procfile",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    help="Another than that beside the file.",
)
@click.option("--no-procfile", is_flag=True, help="Start only what the inventory names.")
@click.option("--no-web", is_flag=True, help="Start no web API and no page.")
@click.option("--exit-with-parent", is_flag=True, help="Drain and stop when the process that started this one ends.")
@click.pass_context
def up(ctx: click.Context, procfile: Path | None, no_procfile: bool, no_web: bool, exit_with_parent: bool) -> None:
    """Start and supervise what the inventory and the Procfile name.

    \b
    Example:
      vmrelay up

    That is: the embedded Redis and the simulated hosts where the settings ask for them, a scheduler, an
    agent for each host, the web API with its page where its extra is installed and its port is free, and
    what else the Procfile beside the configuration file names. A process that dies is started again.
    Ctrl-C or SIGTERM drains: agents end when no migration touches their host any more, Redis ends last. A
    second one aborts what still moves, which goes on after the next start; a third one ends the agents at
    once. Exit code 0, or 1 where something cannot start.
    """
    from worker.cli.up_lock import held
    from worker.leash import end_with_parent
    from worker.runtime import runtime
    from worker.seal import ensure_key

    if exit_with_parent:
        end_with_parent()
    settings = runtime().settings
    with held(settings.state_dir) as lock:
        _settle_for_children()
        ensure_key(settings.key_file)
        ctx.exit(_supervise(None if no_procfile else procfile or _procfile(), lock.ready, serve=not no_web))


def _settle_for_children() -> None:
    """What this process found by its folder or an option, its children find too."""
    from worker.runtime import runtime
    from worker.settings import CONFIG_VARIABLE, config_file

    settings, config = runtime().settings, config_file()
    if config:
        os.environ[CONFIG_VARIABLE] = str(config.absolute())
    os.environ["VMRELAY_STATE_DIR"] = str(settings.state_dir)
    os.environ["VMRELAY_REDIS_URL"] = settings.redis_url


def _procfile() -> Path | None:
    from worker.settings import config_file

    config = config_file()
    beside = (config.absolute().parent if config else Path.cwd()) / "Procfile"
    return beside if beside.is_file() else None


def _supervise(procfile: Path | None, ready: Callable[[], None], *, serve: bool) -> int:
    from worker.cli import up_plan
    from worker.prefix import Prefixer, wants_colour
    from worker.runtime import runtime
    from worker.supervise import SELF, Supervisor, foreground

    parts = runtime()
    early: list[str] = []
    supervisor: Supervisor

    def pid(name: str) -> int | None:
        return supervisor.pids.get(name)

    groups = up_plan.groups(parts, procfile, early.append, pid, serve=serve)
    names = [child.name for group in groups for child in group]
    url = up_plan.web_url(parts, groups)
    write = Prefixer(sys.stderr, [SELF, *names], colour=wants_colour(sys.stderr, os.environ))
    for line in early:
        write(SELF, line)

    def announce() -> None:
        ready()
        hosts = len(parts.inventory)
        click.echo(
            f"vmrelay is up: {hosts} host{'' if hosts == 1 else 's'} ({', '.join(parts.inventory)}), "
            f"{len(names)} processes, Redis at {up_plan.shown(parts.settings.redis_url)}"
            f"{f', page and API at {url}' if url else ''}. Elsewhere: "
            "'vmrelay hosts --domains', 'vmrelay migrate DOMAIN HOST'; here Ctrl-C drains and stops."
        )

    supervisor = Supervisor(groups, write, on_ready=announce)
    return foreground(supervisor)
