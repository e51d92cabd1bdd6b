"""Writes ``docs/reference/`` from the code, or (``--check``) says which pages differ."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import batches
import command
import contract
import hosts
import hypervisors
import journal
import operation
import recovery

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
PAGES: dict[str, Callable[[], str]] = {
    "batch-request.schema.json": batches.batch_schema,
    "batches.md": batches.batches,
    "cli.md": command.cli,
    "contract.md": contract.contract,
    "flags.md": hypervisors.flags,
    "hosts.md": hosts.hosts,
    "journal.md": journal.journal,
    "libvirt-errors.md": hypervisors.libvirt_errors,
    "metrics.md": operation.metrics,
    "migrate-request.schema.json": contract.migrate_schema,
    "params.md": hypervisors.params,
    "recovery.md": recovery.recovery,
    "resolve-request.schema.json": contract.resolve_schema,
    "retry-request.schema.json": contract.retry_schema,
    "sdk-errors.md": hypervisors.sdk_errors,
    "settings.md": operation.settings,
    "tune-request.schema.json": contract.tune_schema,
    "verdicts.md": hypervisors.verdicts,
}


def main(check: bool) -> int:
    """Write the pages, or compare them; the exit code."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    stale = [file.name for file in FOLDER.iterdir() if file.name not in PAGES]
    for name, page in PAGES.items():
        file, text = FOLDER / name, page()
        if file.exists() and file.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not check:
            file.write_text(text, encoding="utf-8")
    for name in stale:
        if name not in PAGES and not check:
            (FOLDER / name).unlink()
        print(f"docs/reference/{name} {'differs from the code: run scripts/docs' if check else 'written anew'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
