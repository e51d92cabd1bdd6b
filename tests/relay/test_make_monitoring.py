"""``make monitoring``, as its target runs it, with one small turn of load."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from prometheus_lab import PROMETHEUS

from bench.monitoring.exporter import EXPORTER
from bench.monitoring.pictures import CAPTION
from worker.leash import leashed

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(
        not (PROMETHEUS.exists() and EXPORTER.exists()),
        reason="prometheus or prometheus-redis-exporter is missing (scripts/debian-packages)",
    ),
]


def test_the_overview_is_asked_answered_and_drawn() -> None:
    """Exit 0, each panel of the overview with a value, one JSON object last, pictures; and nothing is left behind."""
    with tempfile.TemporaryDirectory(prefix="vmr-") as name:
        folder, pictures = Path(name) / "tmp", Path(name) / "pictures"
        folder.mkdir()
        done = subprocess.run(
            leashed([sys.executable, "-m", "bench.monitoring", "--quick", "--pictures", str(pictures)]),
            env={"TMPDIR": str(folder), "PATH": "/usr/bin:/bin", "NO_COLOR": "1"},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=230,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stdout[-3000:]
        assert list(folder.iterdir()) == []
        drawn = {file.name: file.read_text() for file in pictures.iterdir()}
    assert sorted(drawn) == ["preview-overview.svg", "preview-workers.svg"]
    assert all(CAPTION in text for text in drawn.values())
    figures = json.loads(done.stdout.splitlines()[-1])
    assert (figures["turns"], figures["dashboards"], figures["unanswered"]) == (1, 5, [])
    assert figures["queries"] > 100
    assert figures["series_at_most"] < 50
    for words in ("Moving", "compressed,live,persist_dest, succeeded", "failed, PRL_ERR_", 'job=~"$job"'):
        assert words in done.stdout, done.stdout
