"""Writes ``docs/reference/`` and ``docs/contract/*.schema.json`` from the code, or (``--check``) says which differ."""

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
import schemas
import web

DOCS = Path(__file__).parents[2] / "docs"
PAGES: dict[str, Callable[[], str]] = {
    "batches.md": batches.batches,
    "cli.md": command.cli,
    "contract.md": contract.contract,
    "flags.md": hypervisors.flags,
    "hosts.md": hosts.hosts,
    "journal.md": journal.journal,
    "libvirt-errors.md": hypervisors.libvirt_errors,
    "metrics.md": operation.metrics,
    "params.md": hypervisors.params,
    "recovery.md": recovery.recovery,
    "sdk-errors.md": hypervisors.sdk_errors,
    "settings.md": operation.settings,
    "verdicts.md": hypervisors.verdicts,
}


def main(check: bool) -> int:
    """Write the pages, or compare them; the exit code."""
    texts = {DOCS / "reference" / name: page() for name, page in PAGES.items()}
    texts |= {DOCS / "contract" / name: text for name, text in schemas.schemas().items()}
    texts[DOCS / "contract" / "openapi.json"] = web.openapi()
    generated = [*(DOCS / "reference").iterdir(), *(DOCS / "contract").glob("*.schema.json")]
    stale = [file for file in generated if file not in texts]
    for file, text in texts.items():
        if file.exists() and file.read_text(encoding="utf-8") == text:
            continue
        stale.append(file)
        if not check:
            file.write_text(text, encoding="utf-8")
    for file in stale:
        if file not in texts and not check:
            file.unlink()
        name = file.relative_to(DOCS.parent)
        print(f"{name} {'differs from the code: run scripts/docs' if check else 'written anew'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
