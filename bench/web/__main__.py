"""``make bench-web``: the list and the live page, with 100 and with 10,000 ended migrations in the journal.

Two servers (``vmrelay web``) stand side by side on one Redis, one for each journal, and are asked in turns, one request
at a time, over a connection that stays open. The last line is one JSON object; the exit code is 1 where a median of the
large journal is not below 200 ms.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlencode

from bench.stage import READY_SECONDS, Stage, stage
from bench.web.filling import FLEET, fill, originals
from worker.journal import Journal, connect
from worker.leash import leashed

GOAL_MS = 200
SETTINGS = 'state_dir = "{folder}"\nlog_level = "info"\n[web]\nrequests_per_minute = 1000000\n'


class Server:
    """One ``vmrelay web``, and a connection to it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def get(self, path: str) -> bytes:
        """The body of an answer, which must be 200."""
        self._connection.request("GET", path)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != http.client.OK:
            raise SystemExit(f"GET {path}: {answer.status} {body[:300]!r}")
        return body

    def first_data(self, path: str) -> bytes:
        """The first event of a stream, on a connection of its own."""
        stream = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        stream.request("GET", path)
        answer = stream.getresponse()
        while not (line := answer.readline()).startswith(b"data:"):
            if not line:
                raise SystemExit(f"GET {path} ended without an event")
        stream.close()
        return line

    def page(self, cursor: str | None = None, **query: object) -> dict[str, object]:
        """One page of the list."""
        asked = urlencode(query | ({"cursor": cursor} if cursor else {}))
        return dict(json.loads(self.get(f"/v1/migrations?{asked}")))


def queries(server: Server, number: int) -> dict[str, Callable[[], object]]:
    """What is measured, by name; the cursor in the middle of the list is looked for once."""
    cursor: str | None = None
    for _ in range(number // 2 // 50):
        cursor = str(server.page(cursor, limit=50)["next"])
    return {
        "first page": lambda: server.page(limit=50),
        "page of one host": lambda: server.page(limit=50, host=FLEET[0]),
        "page of failures": lambda: server.page(limit=50, outcome="failed"),
        "page of one guest": lambda: server.page(limit=50, domain="vm0007"),
        "page in the middle": lambda: server.page(cursor, limit=50),
        "live page": lambda: server.get("/"),
        "its first data": lambda: server.first_data("/live"),
    }


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile, in milliseconds."""
    cuts = statistics.quantiles(seconds, n=20, method="inclusive")
    return {"median_ms": round(statistics.median(seconds) * 1000, 1), "p95_ms": round(cuts[18] * 1000, 1)}


def judged(small: Mapping[str, Sequence[float]], large: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    """For each query what both journals took, and the ratio of the medians."""
    told: dict[str, dict[str, float]] = {}
    for name in small:
        ours, theirs = summary(large[name]), summary(small[name])
        ratio = round(ours["median_ms"] / theirs["median_ms"], 2) if theirs["median_ms"] else 0.0
        told[name] = ours | {f"small_{key}": value for key, value in theirs.items()} | {"ratio": ratio}
    return told


@contextmanager
def serving(folder: Path, url: str, prefix: str) -> Iterator[Server]:
    """A server for the journal with this prefix."""
    name = prefix.rstrip(":")
    hosts = "".join(f'[hosts.{host}]\nuri = "vzsim:///none"\n' for host in FLEET)
    (folder / f"{name}.toml").write_text(SETTINGS.format(folder=folder) + hosts)
    told = {"VMRELAY_CONFIG": str(folder / f"{name}.toml"), "VMRELAY_REDIS_URL": url, "VMRELAY_KEY_PREFIX": prefix}
    log = folder / f"{name}.log"
    with log.open("wb") as out:
        command = leashed([sys.executable, "-m", "worker.cli.main", "web", "--port", "0"])
        process = subprocess.Popen(command, env=os.environ | told, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not (port := re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text())):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"vmrelay web does not serve:\n{log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield Server(int(port[1]))
    finally:
        process.terminate()
        process.wait(30)


def measured(relay: Stage, folder: Path, large: int, rounds: int) -> dict[str, dict[str, float]]:
    """Fill both journals, and ask both servers in turns."""
    found, numbers = originals(relay), {"small:": 100, "large:": large}
    with ExitStack() as stack:
        asked: dict[str, dict[str, Callable[[], object]]] = {}
        for prefix, number in numbers.items():
            started = time.perf_counter()
            fill(Journal(stack.enter_context(connect(relay.redis_url)), prefix), found, number)
            print(f"{number} migrations written in {time.perf_counter() - started:.1f} s", flush=True)
            asked[prefix] = queries(stack.enter_context(serving(folder, relay.redis_url, prefix)), number)
        took: dict[str, dict[str, list[float]]] = {prefix: {name: [] for name in asked[prefix]} for prefix in numbers}
        for turn in range(rounds + 1):  # the first one fills caches
            for name in asked["small:"]:
                for prefix in numbers:
                    started = time.perf_counter()
                    asked[prefix][name]()
                    if turn:
                        took[prefix][name].append(time.perf_counter() - started)
        return judged(took["small:"], took["large:"])


def main() -> int:
    """Run and print; the last line is one JSON object."""
    parser = argparse.ArgumentParser(prog="make bench-web", description=__doc__)
    parser.add_argument("--migrations", type=int, default=10_000, help="in the large journal")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that it works")
    options = parser.parse_args()
    large, rounds = (500, 3) if options.quick else (options.migrations, options.rounds)
    with TemporaryDirectory(prefix="vmr-bench-web-") as folder, stage(2) as relay:
        told = measured(relay, Path(folder), large, rounds)
    print(f"{'':<20}{'100':>18}{large:>18}{'ratio':>8}")
    for name, of in told.items():
        small, ours = (f"{of[f'{kind}median_ms']:.1f} ({of[f'{kind}p95_ms']:.1f})" for kind in ("small_", ""))
        print(f"{name:<20}{small:>18}{ours:>18}{of['ratio']:>8.2f}")
    worst = max(of["median_ms"] for of in told.values())
    print(json.dumps({"migrations": large, "queries": told, "worst_median_ms": worst, "under_goal": worst < GOAL_MS}))
    return 0 if worst < GOAL_MS else 1


if __name__ == "__main__":
    sys.exit(main())
