"""Metrics whose values the journal keeps: the leading scheduler shows them, all other processes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

Labels = TypeVar("Labels", bound=tuple[str, ...])


class Shown(Collector):
    """What the journal says, as the leading scheduler last read it; nothing in every other process."""

    family: type[CounterMetricFamily | GaugeMetricFamily] = GaugeMetricFamily
    kind = "gauge"

    def __init__(self, name: str, documentation: str, labels: tuple[str, ...]) -> None:
        self.name, self.documentation, self.labels = name, documentation, labels
        self._values: Sequence[tuple[tuple[str, ...], float]] = ()
        REGISTRY.register(self)

    def show(self, values: Mapping[Labels, float]) -> None:
        """Replace what is served, all at once; nothing where another scheduler leads."""
        self._values = sorted(values.items())

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """What a scrape gets."""
        family = self.family(self.name, self.documentation, labels=self.labels)
        for labels, value in self._values:
            family.add_metric(labels, value)
        yield family


class Counted(Shown):
    """A count that the journal keeps."""

    family = CounterMetricFamily
    kind = "counter"
