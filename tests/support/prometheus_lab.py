"""Debian's Prometheus for tests: the same one that ``make monitoring`` starts."""

from bench.monitoring.prometheus import CONFIG, PATIENCE, PROMETHEUS, PROMTOOL, Prometheus, running_prometheus

__all__ = ["CONFIG", "PATIENCE", "PROMETHEUS", "PROMTOOL", "Prometheus", "running_prometheus"]
