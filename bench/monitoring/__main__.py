"""``make monitoring``: a relay under load, Prometheus beside it, and what the overview asks, answered.

Starts three simulated hosts, agents, a scheduler, Debian's Prometheus with deploy/prometheus and redis_exporter, all in
a directory of its own; loads the relay; asks every query of every committed dashboard; prints those of the overview.
``--pictures`` draws docs/pictures from the answers. ``--keep`` goes on with the load until Ctrl-C. Exit code 1 where a
query got no answer. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bench.monitoring import dashboards
from bench.monitoring.dashboards import Asked, Span
from bench.monitoring.load import Load
from bench.monitoring.pictures import picture
from bench.monitoring.report import table
from bench.monitoring.stage import CONFIG, Stage, running_stage
from worker.cli.demo import scratch
from worker.cli.demo_relay import signals_unwind
from worker.cli.demo_report import console

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "pictures"
SIZES = (2048, 6144, 4096, 8192, 3072, 12288)
GUESTS = 12
HELD = 40
"""Simulated seconds: two real ones."""
PICTURE_RATE = 10.0
"""Seconds over which rates are taken in a picture."""
SHOWN = {
    "vmrelay-overview": ("Now", "What came of them", "How long it takes"),
    "vmrelay-workers": ("Agents and schedulers", "Phase messages"),
}
"""Which rows of which dashboard are drawn."""


def main() -> int:
    """Run; the exit code."""
    parser = argparse.ArgumentParser(prog="make monitoring", description=__doc__)
    parser.add_argument("--seconds", type=float, default=40, help="how long the load goes on (whole turns)")
    parser.add_argument("--keep", action="store_true", help="go on with the load until Ctrl-C, and say where to look")
    parser.add_argument("--quick", action="store_true", help="one small turn of load, to see that it works")
    parser.add_argument("--pictures", nargs="?", type=Path, const=PICTURES, help="draw previews (docs/pictures)")
    options = parser.parse_args()
    with signals_unwind(), scratch() as folder, running_stage(folder) as stage:
        return run(stage, folder, options)


def run(stage: Stage, folder: Path, options: argparse.Namespace) -> int:
    """Load, ask, print; the exit code."""
    print(
        f"a relay, its Redis, and Prometheus ({stage.prometheus.url}) are up; {options.seconds:g} s of load", flush=True
    )
    load = Load(stage.relay, GUESTS, SIZES, HELD)
    began = time.time()
    turns = 0
    while not turns or (time.time() - began < options.seconds and not options.quick):
        load.turn(whole=not options.quick)
        turns += 1
    stage.scraped()
    time.sleep(2 * stage.prometheus.interval)  # what happened last is scraped, and rules have seen it
    span = Span(began, time.time(), stage.prometheus.interval)
    answers = answered(stage, span)
    console().print(table(answers["vmrelay-overview"]))
    if options.pictures:
        draw(stage, span, options.pictures)
    figures = counted(answers, turns, span)
    if options.keep:
        keep(stage, load, folder)
    print(json.dumps(figures))
    return 1 if figures["unanswered"] else 0


def answered(stage: Stage, span: Span) -> dict[str, list[Asked]]:
    """All queries of all dashboards, by uid; graphs ask for rates over the whole load, so that its end is told."""
    whole = Span(span.start, span.end, span.interval, rate=span.end - span.start)
    return {each["uid"]: list(dashboards.ask(each, stage.prometheus, whole)) for each in dashboards.load()}


def counted(answers: Mapping[str, Iterable[Asked]], turns: int, span: Span) -> dict[str, Any]:
    """What the last line tells."""
    asked = [each for those in answers.values() for each in those]
    return {
        "seconds": round(span.end - span.start, 1),
        "turns": turns,
        "dashboards": len(answers),
        "queries": len(asked),
        "series_at_most": max(len(each.lines) for each in asked),
        "unanswered": sorted({each.title for each in asked if not each.lines}),
        "no_number": sorted({each.title for each in asked if each.lines and all(map(_nan, each.lines))}),
    }


def _nan(line: dashboards.Line) -> bool:
    return math.isnan(line.last)


def draw(stage: Stage, span: Span, folder: Path) -> None:
    """Write a picture of each dashboard that is shown, as it was when most was moving."""
    folder.mkdir(parents=True, exist_ok=True)
    span = Span(span.start, busiest(stage, span), span.interval, rate=PICTURE_RATE)
    for each in dashboards.load():
        if rows := SHOWN.get(each["uid"]):
            known = dashboards.variables(each, stage.prometheus, span)
            drawn = picture(each, dashboards.ask(each, stage.prometheus, span), span, rows, known.get("host", ""))
            file = folder / f"preview-{each['uid'].removeprefix('vmrelay-')}.svg"
            file.write_text(drawn, encoding="utf-8")
            print(f"drawn: {file}")


def busiest(stage: Stage, span: Span) -> float:
    """When most migrations ran, in the later half."""
    running = "sum(vmrelay_running_migrations)"
    half = (span.start + span.end) / 2
    ((_, points),) = stage.prometheus.query_range(running, half, span.end, span.interval)
    return max(points, key=lambda point: (point[1], point[0]))[0]


def keep(stage: Stage, load: Load, folder: Path) -> None:
    """Say where everything is, and go on until Ctrl-C."""
    print(f"\nPrometheus      {stage.prometheus.url}")
    print(f"Grafana         PROMETHEUS_URL={stage.prometheus.url} VMRELAY_DASHBOARDS={dashboards.FOLDER}")
    print(f"                with {ROOT / 'deploy' / 'grafana' / 'provisioning'} as its provisioning folder")
    print(f"the relay       VMRELAY_STATE_DIR={folder} VMRELAY_REDIS_URL={stage.relay.redis_url}")
    print(f"                .venv/bin/vmrelay --config {CONFIG} list")
    print("Ctrl-C ends all of it; until then the load goes on.", flush=True)
    try:
        while True:
            load.turn()
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    sys.exit(main())
