"""Writes ``deploy/grafana/dashboards/``, or (``--check``) says which of them differ."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from batches import BATCHES
from classic import document
from host import ONE_HOST
from objectives import OBJECTIVES
from overview import OVERVIEW
from workers import WORKERS

FOLDER = Path(__file__).parents[1] / "dashboards"
DASHBOARDS = (OVERVIEW, ONE_HOST, BATCHES, WORKERS, OBJECTIVES)


def main(check: bool) -> int:
    """Write the dashboards, or compare them; the exit code."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = {f"{each.uid.removeprefix('vmrelay-')}.json": each for each in DASHBOARDS}
    stale = [file.name for file in FOLDER.iterdir() if file.name not in wanted]
    for name in [] if check else stale:
        (FOLDER / name).unlink()
    for name, dashboard in wanted.items():
        file, text = FOLDER / name, json.dumps(document(dashboard), indent=2, ensure_ascii=False) + "\n"
        if file.exists() and file.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not check:
            file.write_text(text, encoding="utf-8")
    for name in stale:
        how = "differs from its generator: run scripts/dashboards" if check else "written anew"
        print(f"deploy/grafana/dashboards/{name} {how}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
