"""``vmrelay targets``: tell Prometheus where to scrape."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import click
import redis

from worker.discovery import Found, Group, discover
from worker.errors import RelayError, Unavailable
from worker.journal.intake import schedulers
from worker.runtime import Runtime, runtime


@click.command(short_help="Tell Prometheus where to scrape (file_sd).")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Replace this file (default: print).")
@click.option("--watch", is_flag=True, help="Keep the file current until told to stop; needs --output.")
@click.option(
    "--every",
    type=click.FloatRange(min=0.1),
    default=5.0,
    show_default=True,
    help="With --watch: seconds between two looks.",
)
@click.option("--web", is_flag=True, help="List 'vmrelay web', too, at the address and port of the settings' [web].")
def targets(output: Path | None, watch: bool, every: float, web: bool) -> None:
    """Write the targets of Prometheus's file_sd_configs: every agent and scheduler of this relay.

    \b
    Examples:
      vmrelay targets
      vmrelay targets --output /run/vmrelay/targets.json
      vmrelay targets --output /run/vmrelay/targets.json --watch

    An agent that is away stays listed where its metrics_port is set, so that Prometheus sees it missing. What cannot
    be listed is said on standard error. While Redis is away the file stays as it is.
    """
    if watch and output is None:
        raise click.UsageError("--watch keeps a file current; name it with --output")
    parts, said = runtime(), ""
    while True:
        try:
            said = _once(parts, output, web, said)
        except RelayError as failure:
            if not watch:
                raise
            said = _say(str(failure), said)
        if not watch:
            return
        time.sleep(every)


def _once(parts: Runtime, output: Path | None, web: bool, said: str) -> str:
    """Look and write once; what was said, so that it is said once. Raises ``Unavailable``."""
    found = look(parts, read(output) if output else [], web=web)
    text = json.dumps(found.groups, indent=2) + "\n"
    if output is None:
        click.echo(text, nl=False)
    else:
        write(output, text)
    return _say("\n".join(found.remarks), said)


def _say(text: str, said: str) -> str:
    if text and text != said:
        click.echo(text, err=True)
    return text


def look(parts: Runtime, before: list[Group], *, web: bool = False) -> Found:
    """The targets as the leases are now. Raises ``Unavailable`` where Redis does not tell."""
    journal = parts.journal
    try:
        agents = journal.agents(parts.inventory)
        living = journal.agents(schedulers(journal)).values()
    except redis.RedisError as lost:
        raise Unavailable(
            f"Redis does not answer ({lost}), so the targets stay as they were; see 'vmrelay doctor'",
            code="redis-unavailable",
        ) from None
    return discover(parts.settings, parts.inventory, agents, living, before, socket.gethostname(), web=web)


def read(file: Path) -> list[Group]:
    """What an earlier run wrote; nothing where there is no such file, or something else in it."""
    try:
        groups = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [group for group in groups if _is_group(group)] if isinstance(groups, list) else []


def _is_group(found: object) -> bool:
    return isinstance(found, dict) and isinstance(found.get("targets"), list) and isinstance(found.get("labels"), dict)


def write(file: Path, text: str) -> None:
    """Replace a file in one step, if it says something else. Raises ``Unavailable`` where it cannot be written."""
    beside = None
    try:
        if file.exists() and file.read_bytes() == text.encode():
            return
        descriptor, beside = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8") as new:
            new.write(text)
        os.chmod(beside, 0o644)  # Prometheus is another user
        os.replace(beside, file)
    except OSError as wrong:
        if beside:
            with suppress(OSError):
                os.unlink(beside)
        raise Unavailable(
            f"cannot write the targets to {file} ({wrong.strerror}), so what was there stays; make room or name "
            "another place",
            code="file",
        ) from None
