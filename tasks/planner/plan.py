"""From a problem to a checked plan."""

from __future__ import annotations

from worker.contract.plans import Plan, Problem
from worker.errors import RelayError


class BadProblem(RelayError):
    """A problem that makes no sense: a guest on a host that is not there, two guests with one id, …"""

    code = "bad-problem"


def plan(problem: Problem) -> Plan:
    """The plan for a problem; the same for the same problem and seed. Raises ``BadProblem``."""
    raise NotImplementedError
