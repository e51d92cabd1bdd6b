"""The problem that planning solves, made of what the journal knows of hosts and guests, or of a file.

Agents publish which domains their host has and what these use; nothing here touches a host. What is read is one
``Snapshot``; everything that follows from it is pure.
"""

from worker.fleet.file import problem_from_file
from worker.fleet.problem import problem, problem_of
from worker.fleet.snapshot import Holder, Seen, Snapshot, take
from worker.fleet.used import Used, percent, used

__all__ = [
    "Holder",
    "Seen",
    "Snapshot",
    "Used",
    "percent",
    "problem",
    "problem_from_file",
    "problem_of",
    "take",
    "used",
]
