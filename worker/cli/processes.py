"""``vmrelay agent``, ``scheduler`` and ``seal-key``."""

from __future__ import annotations

import click


@click.command(short_help="Be the agent of one host.")
@click.argument("host")
@click.pass_context
def agent(ctx: click.Context, host: str) -> None:
    """Own HOST: hold its lease and its connection, and run the phases of its migrations.

    \b
    Example:
      vmrelay agent alpha

    One agent owns one host; a second one refuses to start and says who does. SIGTERM drains: the agent
    ends when no migration touches its host any more; after drain_seconds, or at a second SIGTERM, those
    that are left are aborted, and go on when the agent is back. A third SIGTERM ends it at once. Exit code 0,
    or 5 where something was still running.
    """
    from worker.agent import run_agent

    ctx.exit(run_agent(host))


@click.command(short_help="Be a scheduler.")
@click.pass_context
def scheduler(ctx: click.Context) -> None:
    """Admit and dispatch migrations. Several may run; one of them leads.

    \b
    Example:
      vmrelay scheduler
    """
    from worker.scheduler import run_scheduler

    ctx.exit(run_scheduler())


@click.command(short_help="Make the key that seals cookies.")
def seal_key() -> None:
    """Make the key that seals cookies, unless there is one; all agents must have the same.

    \b
    Example:
      vmrelay seal-key
    """
    from worker.seal import ensure_key
    from worker.settings import current

    ensure_key(current().key_file)
    click.echo(current().key_file)
