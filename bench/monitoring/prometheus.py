"""Debian's Prometheus, really scraping a relay: the committed configuration and rules, with short intervals."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from worker.embedded import free_port
from worker.leash import leashed

PROMETHEUS = Path("/usr/bin/prometheus")
PROMTOOL = Path("/usr/bin/promtool")
CONFIG = Path(__file__).parents[2] / "deploy" / "prometheus"
PATIENCE = 40.0
"""Seconds until a condition counts as missed; the machine may be busy."""
TRIES = 5
"""Free ports that somebody else took first."""


class Prometheus:
    """One server and its HTTP API. Times are seconds since 1970, values are numbers."""

    def __init__(self, directory: Path, interval: float = 0.5) -> None:
        self.directory = directory
        self.interval = interval
        """Seconds between two scrapes, and between two evaluations of the rules."""
        self.targets = directory / "targets.json"
        """Where ``vmrelay targets --output`` is to write (``file_sd``)."""
        self.log = directory / "prometheus.log"
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it answers queries."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if not self.targets.exists():
            self.targets.write_text("[]")
        (self.directory / "prometheus.yml").write_text(yaml.safe_dump(self.config()))
        for _ in range(TRIES):
            port = free_port()
            self.url = f"http://127.0.0.1:{port}"
            self._spawn(port)
            if self._ready():
                return
        raise AssertionError(f"Prometheus does not start: {self.log.read_text()[-3000:]}")

    def config(self) -> dict[str, Any]:
        """The committed configuration, with this directory's targets and short intervals."""
        interval = f"{int(self.interval * 1000)}ms"
        found: dict[str, Any] = yaml.safe_load((CONFIG / "prometheus.yml").read_text())
        found["global"] = {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval}
        found["rule_files"] = [str(CONFIG / pattern) for pattern in found["rule_files"]]
        for job in found["scrape_configs"]:
            for discovery in job.get("file_sd_configs", []):
                discovery["files"] = [str(self.directory / Path(file).name) for file in discovery["files"]]
                discovery["refresh_interval"] = "1s"
        return found

    def _spawn(self, port: int) -> None:
        words = [
            str(PROMETHEUS),
            f"--config.file={self.directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=info",
        ]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                leashed(words), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _ready(self) -> bool:
        """Wait; false where the process ended instead."""
        assert self._process
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                return False
            try:
                with urllib.request.urlopen(f"{self.url}/-/ready", timeout=PATIENCE):  # noqa: S310 - our own address
                    return True
            except OSError:
                time.sleep(0.05)
        raise AssertionError(f"Prometheus is not ready: {self.log.read_text()[-3000:]}")

    def stop(self) -> None:
        """End it; its data stay in the directory."""
        if self._process:
            self._process.kill()
            self._process.wait(PATIENCE)

    # -- what it knows --------------------------------------------------------------------------------

    def ask(self, path: str, **arguments: object) -> Any:  # noqa: ANN401 - JSON
        """The ``data`` of an answer of ``/api/v1/<path>``; lists as arguments are repeated."""
        form = urllib.parse.urlencode(arguments, doseq=True)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{form}", timeout=PATIENCE) as answer:  # noqa: S310
                document = json.loads(answer.read())
        except urllib.error.HTTPError as refused:
            raise AssertionError(f"{path} {arguments}: {refused.read().decode()}") from None
        assert document["status"] == "success", document
        return document["data"]

    def query(self, expression: str, at: float | None = None) -> list[tuple[dict[str, str], float]]:
        """An instant vector: labels and value of each series."""
        data = self.ask("query", query=expression, **({} if at is None else {"time": at}))
        assert data["resultType"] in ("vector", "scalar"), data
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(each["metric"], float(each["value"][1])) for each in data["result"]]

    def value(self, expression: str) -> float | None:
        """The value of the one series that there is; ``None`` where there is none."""
        found = self.query(expression)
        assert len(found) <= 1, (expression, found)
        return found[0][1] if found else None

    def query_range(
        self, expression: str, start: float, end: float, step: float
    ) -> list[tuple[dict[str, str], list[tuple[float, float]]]]:
        """A range vector: labels of each series, and its values over time."""
        data = self.ask("query_range", query=expression, start=start, end=end, step=step)
        return [(each["metric"], [(float(t), float(v)) for t, v in each["values"]]) for each in data["result"]]

    def series(self, *selectors: str) -> list[dict[str, str]]:
        """The label sets that fit, with the metric's name as ``__name__``."""
        found: list[dict[str, str]] = self.ask("series", **{"match[]": selectors})
        return found

    def label_values(self, label: str, *selectors: str) -> list[str]:
        """Values of a label, as ``label_values()`` of a dashboard's variable gets them."""
        found: list[str] = self.ask(f"label/{label}/values", **{"match[]": selectors})
        return found

    def alerts(self, state: str = "firing") -> dict[str, list[dict[str, Any]]]:
        """The alerts in a state (``firing``, ``pending``), by name."""
        found: dict[str, list[dict[str, Any]]] = {}
        for alert in self.ask("alerts")["alerts"]:
            if alert["state"] == state:
                found.setdefault(alert["labels"]["alertname"], []).append(alert)
        return found

    def scraped(self) -> dict[str, str]:
        """The health (``up``, ``down``, ``unknown``) of each target, by ``instance``."""
        return {each["labels"]["instance"]: each["health"] for each in self.ask("targets")["activeTargets"]}


@contextmanager
def running_prometheus(directory: Path, interval: float = 0.5) -> Iterator[Prometheus]:
    """A server of one's own; it does not outlive the block."""
    prometheus = Prometheus(directory, interval)
    try:
        prometheus.start()
        yield prometheus
    finally:
        prometheus.stop()
