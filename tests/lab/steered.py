"""What the tests of a steered perform share: guests that do not converge, and hosts with a policy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from libvirt_lab import Guest, Recorder, Stage

from worker.errors import HypervisorError
from worker.hypervisors.base import HostConfig, Progress
from worker.hypervisors.convergence import StallPolicy, Tuning

if TYPE_CHECKING:
    from collections.abc import Callable

BUSY = {"bandwidth": 16}
"""MiB/s: less than a busy guest dirties, and a round takes it less than a second."""


@dataclass
class Helm(Recorder):
    """A ``Watch`` that also hands out wishes, when their time has come, and keeps the answers."""

    wishes: list[Tuning] = field(default_factory=list)
    due: Callable[[Progress], bool] = lambda _: True
    """Looked at with the last progress that was told."""
    answers: list[tuple[Tuning, HypervisorError | None]] = field(default_factory=list)

    def tuning(self) -> Tuning | None:
        """The next wish, if it is due."""
        return self.wishes.pop(0) if self.wishes and self.seen and self.due(self.seen[-1]) else None

    def tuned(self, tuning: Tuning, error: HypervisorError | None) -> None:
        """Keep the answer."""
        self.answers.append((tuning, error))


def busy_guest(stage: Stage, name: str) -> Guest:
    """A guest that dirties all its memory within a round of copying at the bandwidth ``BUSY``."""
    return stage.guest(name, memory=16, rate=64)


def steered(stage: Stage, *wishes: Tuning, **policy: Any) -> Helm:
    """Give the stage a source with this policy for stalls, and a watch that hands out these wishes."""
    from worker.hypervisors.libvirt.driver import LibvirtHypervisor

    stage.source.close()
    config = HostConfig(
        "alpha", stage.lab.uris["alpha"], "alpha", poll_seconds=0.05, stall=StallPolicy(**{"rounds": 2, **policy})
    )
    stage.source = LibvirtHypervisor(config)
    stage.source.open()
    stage.watch = helm = Helm(wishes=list(wishes))
    return helm
