"""Ten migrations of five guests among three real hosts at once, as ``make fleet`` runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.fleet import copies, fleet, quantile, routes

ROOT = Path(__file__).parents[2]
HOSTS = ("alpha", "beta", "gamma")


@pytest.mark.lab
@pytest.mark.timeout(240)
def test_ten_migrations_of_five_guests_at_once(
    capsys: pytest.CaptureFixture[str], record_property: Callable[[str, object], None]
) -> None:
    """None is lost, none runs twice, every heartbeat goes on, the counters agree, and the handoff is told."""
    command = [sys.executable, "-m", "bench.fleet", "--guests", "5", "--migrations", "10", "--hosts", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    # Where anything is not as it must be (copies, heartbeats, outcomes, counters) it says so and ends with 1.
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert {name: figures[name] for name in ("migrations", "guests", "hosts", "succeeded")} == {
        "migrations": 10,
        "guests": 5,
        "hosts": 3,
        "succeeded": 10,
    }
    assert (figures["lost"], figures["duplicated"]) == (0, 0)
    assert 0 <= figures["handoff_p50_seconds"] <= figures["handoff_p99_seconds"]
    record_property("fleet", figures)
    with capsys.disabled():
        print(f"\n10 migrations of 5 guests at once: handoff p99 {figures['handoff_p99_seconds']:.3f} s")


def test_every_guest_is_moved_equally_often_and_never_to_where_it_is() -> None:
    """The moves of a fleet are spread over its guests, and each one changes the host."""
    guests = fleet(10, HOSTS)
    plan = routes(guests, HOSTS, 25)
    assert sorted(map(len, plan.values())) == [2] * 5 + [3] * 5
    for guest in guests:
        stops = [guest.host, *plan[guest.name]]
        assert all(here != there for here, there in pairwise(stops))
    assert Counter(guest.host for guest in guests) == {"alpha": 4, "beta": 3, "gamma": 3}


def test_lost_and_duplicated_guests_are_counted() -> None:
    """A guest that only a host's definition remembers is lost; one that runs on two hosts is there twice."""
    found = {"here": {"alpha": True, "beta": False}, "gone": {"alpha": False}, "twice": {"alpha": True, "beta": True}}
    assert copies(found, ["here", "gone", "twice", "never-seen"]) == {"lost": 2, "duplicated": 1}


@pytest.mark.parametrize(
    ("buckets", "share", "value"),
    [
        ({0.1: 10, 0.2: 20, float("inf"): 20}, 0.5, 0.1),
        ({0.1: 10, 0.2: 20, float("inf"): 20}, 0.75, 0.15),
        ({0.1: 0, 0.2: 4, float("inf"): 4}, 0.5, 0.15),
        ({0.1: 1, float("inf"): 2}, 0.99, 0.1),
        ({float("inf"): 0}, 0.99, 0.0),
    ],
)
def test_quantiles_are_those_of_prometheus(buckets: dict[float, float], share: float, value: float) -> None:
    """Linear within a bucket; the last finite bound where the quantile is beyond it."""
    assert quantile(buckets, share) == pytest.approx(value)
