"""``vmrelay migrate``: options named as ``virsh migrate`` names them."""

from __future__ import annotations

import sys
from typing import Any

import click

from worker.cli import client
from worker.cli.exits import TIMED_OUT
from worker.cli.options import SectionedCommand, parameters, request_of, wait_limit
from worker.contract import MIGRATE
from worker.errors import Rejected


@click.command(cls=SectionedCommand, params=parameters(), short_help="Move a domain to another host.")
@client.output
@click.pass_context
def migrate(ctx: click.Context, /, wait: bool | None, verbose: bool, output: str, **_: Any) -> None:  # noqa: ANN401
    """Move DOMAIN to the host DESTINATION.

    \b
    Examples:
      vmrelay migrate web-1 beta                     with the driver's defaults
      vmrelay migrate web-1 beta --suspend --wait    leave it paused there
      vmrelay migrate web-1 beta --postcopy --timeout 60 --timeout-postcopy
      vmrelay migrate web-1 beta --dname web-one -o json --wait

    The options have virsh's words. A yes or no that is not named takes the driver's default
    ('vmrelay flags'); --no-live and so on switch off what is on by default.

    Exit codes: 0 moved (or enqueued, with --no-wait), 1 failed and safe on its source, 2 refused,
    3 in doubt, 4 timed out waiting, 130 interrupted (the migration goes on).
    """
    request = request_of(ctx.params)
    client.journal()
    ident = client.enqueue(MIGRATE, request)
    waits = wait if wait is not None else verbose or sys.stderr.isatty()
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

    ctx.exit(wait_for(ident, wait_limit(ctx.params), output, verbose=verbose))
