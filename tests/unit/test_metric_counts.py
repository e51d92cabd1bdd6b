"""What is counted when something ends, and what the gauges of a host show."""

from __future__ import annotations

from prometheus_client import REGISTRY

from worker import metrics
from worker.hypervisors.base import Progress
from worker.leaving import Leaving

MEASURED = {
    "vmrelay_downtime_seconds_sum": 0.25,
    "vmrelay_transferred_bytes_total": 4096.0,
    "vmrelay_job_seconds_sum": 12.0,
    "vmrelay_iterations_sum": 3.0,
}


def sample(name: str, **labels: str) -> float:
    """What would be served; 0 where there is nothing yet."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_what_was_measured_counts_for_those_that_moved_only() -> None:
    """Downtime, bytes, the hypervisor's own time and its rounds: of successes, and of what was measured at all."""
    for outcome, measured in (("succeeded", True), ("failed", True), ("succeeded", False)):
        driver = f"{outcome}-{measured}"
        values = (0.25, 4096, 12.0, 3) if measured else (None, None, None, None)
        metrics.record_end(driver, outcome, 13.0, *values)
        counts = outcome == "succeeded" and measured
        for name, value in MEASURED.items():
            assert sample(name, driver=driver) == (value if counts else 0), name
        assert sample("vmrelay_iterations_count", driver=driver) == counts
        assert sample("vmrelay_migration_duration_seconds_count", driver=driver, outcome=outcome) == 1


def test_the_gauges_of_a_host_are_sums_and_fall_to_nothing() -> None:
    """Over the performs that run now; one that ended, twice even, no longer counts."""
    leaving = Leaving("sums")

    def shown() -> tuple[float, ...]:
        gauges = [
            "vmrelay_perform_remaining_bytes",
            "vmrelay_perform_bandwidth_bytes_per_second",
            "vmrelay_perform_dirty_bytes_per_second",
        ]
        return tuple(sample(name, host="sums") for name in gauges)

    assert shown() == (0, 0, 0)
    leaving.at("a", Progress(remaining_bytes=100, bandwidth_bytes_per_second=10, dirty_bytes_per_second=1))
    leaving.at("b", Progress(remaining_bytes=200, bandwidth_bytes_per_second=20, dirty_bytes_per_second=2))
    leaving.at("a", Progress(remaining_bytes=50, bandwidth_bytes_per_second=5))
    assert shown() == (250, 25, 2)
    leaving.over("b")
    leaving.over("b")
    assert shown() == (50, 5, 0)
    leaving.over("a")
    assert shown() == (0, 0, 0)


def test_what_seldom_happens_is_served_from_nothing_on() -> None:
    """Of a counter that appears with its first event no rate sees that one: retries, attempts, recoveries, batches."""
    metrics.expect_trouble("seldom")
    metrics.expect_batches(["seldom"])
    seldom = {"driver": "seldom"}
    for name, labels in (
        ("vmrelay_retries_total", seldom | {"phase": "perform", "class": "transient"}),
        ("vmrelay_attempts_total", seldom | {"result": "in-doubt"}),
        ("vmrelay_recovery_duration_seconds_count", seldom),
        ("vmrelay_batch_duration_seconds_count", {"kind": "seldom"}),
    ):
        assert REGISTRY.get_sample_value(name, labels) == 0, name
