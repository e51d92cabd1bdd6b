"""Looks at a libvirt that changes its mind between two answers. Needs libvirt-python, no host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import pytest

from worker.errors import HypervisorError, Retry
from worker.hypervisors.base import DomainState, HostConfig

pytestmark = pytest.mark.lab

Answer = TypeVar("Answer")
UUID = "11111111-2222-4333-8444-555555555555"
# libvirt's numbers: a state and its reason; types of jobs and an operation; what a daemon is doing with a domain
RUNNING, MIGRATED, BY_MIGRATION = [1, 1], [1, 2], [3, 2]
OUTGOING = {"type": 2, "operation": 5}
NONE: dict[str, int] = {"type": 0}
AT_REST, IN_A_JOB, OCCUPIED, BROKEN = 0, 1, 2, 3


@dataclass
class ChangingDomain:
    """A domain that tells one thing after the other; the last one again and again."""

    states: list[list[int]]
    jobs: list[dict[str, int]]
    controls: list[int] = field(default_factory=lambda: [AT_REST])
    connection: object = field(default_factory=object)

    def state(self) -> list[int]:
        """State and reason."""
        return _next(self.states)

    def jobStats(self) -> dict[str, int]:
        """The job's statistics."""
        return _next(self.jobs)

    def controlInfo(self) -> list[int]:
        """What the daemon is doing with it."""
        return [_next(self.controls), 0, 0]

    def connect(self) -> object:
        """The connection over which it was found."""
        return self.connection

    def isPersistent(self) -> int:
        """It is defined."""
        return 1

    def name(self) -> str:
        """Its name."""
        return "web-1"

    def UUIDString(self) -> str:
        """Its uuid."""
        return UUID

    def info(self) -> list[int]:
        """Its memory."""
        return [1, 1024]


def _next(answers: list[Answer]) -> Answer:
    return answers.pop(0) if len(answers) > 1 else answers[0]


@pytest.mark.parametrize(
    ("states", "jobs", "expected"),
    [
        # finish ends between the two answers: the old state without a job would be a copy that was left paused
        ([BY_MIGRATION, MIGRATED], [NONE], DomainState.RUNNING),
        # perform begins, and pauses the guest, between them
        ([RUNNING, BY_MIGRATION], [OUTGOING], DomainState.PAUSED_OUT),
        ([RUNNING, RUNNING], [OUTGOING], DomainState.MIGRATING),
    ],
)
def test_state_and_job_of_one_moment(
    states: Sequence[list[int]], jobs: Sequence[dict[str, int]], expected: DomainState
) -> None:
    """A look during which the state changed is taken again."""
    from worker.hypervisors.libvirt.states import look

    assert look(ChangingDomain(list(states), list(jobs))).state is expected


def test_a_daemon_that_still_connects_to_the_guest() -> None:
    """Nothing is told before it has; once it has, it is not asked again over that connection."""
    from worker.hypervisors.libvirt.host import Host

    host = Host(HostConfig("alpha", "qemu:///session", "alpha"))
    domain = ChangingDomain([BY_MIGRATION], [NONE], [OCCUPIED, BROKEN, AT_REST, OCCUPIED])
    with pytest.raises(HypervisorError, match="may be old") as caught:
        host.look(domain, patience=0)
    assert (caught.value.retry, caught.value.untouched) == (Retry.TRANSIENT, True)
    for _ in range(2):
        seen = host.look(domain)
        assert seen is not None
        assert seen.state is DomainState.PAUSED_OUT
    domain.connection = object()
    with pytest.raises(HypervisorError):
        host.look(domain, patience=0)


def test_a_migration_is_no_reason_to_wait() -> None:
    """A job that libvirt tells of is seen for what it is."""
    from worker.hypervisors.libvirt.host import Host

    host = Host(HostConfig("alpha", "qemu:///session", "alpha"))
    seen = host.look(ChangingDomain([RUNNING], [OUTGOING], [IN_A_JOB]), patience=0)
    assert seen is not None
    assert seen.state is DomainState.MIGRATING
