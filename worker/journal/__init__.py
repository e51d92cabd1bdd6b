"""Migrations in Redis: records, compare-and-set transitions, event streams.

The journal is the truth that recovery reads. Every transition is one Lua script (``scripts/``): it
compares what the caller believes with what is stored, and changes record, indexes, slots, outbox and
event stream in one step. Scripts are safe to repeat: a caller whose answer was lost asks again with the
same token and is told ``SAME``.
"""

from worker.journal.journal import Claim, Journal
from worker.journal.record import PhaseRun, Record
from worker.journal.scripting import connect

__all__ = ["Claim", "Journal", "PhaseRun", "Record", "connect"]
