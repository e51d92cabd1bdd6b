"""``vmrelay check``: the validator over standard input and output."""

from __future__ import annotations

import json
import sys

import click


@click.command(
    short_help="Validate migration calls, without any host.",
    help="""
    \b
    $ echo '{"hypervisor": "vz-seed", "api": "begin3", "flags": ["VIR_MIGRATE_LIVE"]}' | vmrelay check

    Say whether libvirt would take a migration call, without any host. Reads one JSON document a line:
    hypervisor (vz-seed, vz or qemu), api (begin3 to confirm3, migrate3, touri3, virsh, ...), flags or
    flags_value, params or typed_params, state; and where they matter cookie, dconnuri, cancelled, ro,
    cfg, dst_setup, dst_hostname, argv. Answers one JSON document a line: ok, error_code, message.
    A line that makes no sense is answered with the error code bad-request.
    """,
)
def check() -> None:
    """Answer each line of standard input; exit code 0 whatever the verdicts are."""
    from worker.hypervisors.checks import check_line

    for raw in sys.stdin.buffer:
        if raw.strip():
            verdict = check_line(raw.decode("utf-8", "replace"))
            answer = {"ok": verdict.ok, "error_code": verdict.error_code, "message": verdict.message}
            click.echo(json.dumps(answer))
            sys.stdout.flush()
