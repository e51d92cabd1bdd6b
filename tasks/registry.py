"""Everything that registers itself: Celery tasks, rounds of schedulers, looks of agents, tables.

Celery imports this module (``worker.app``); whoever only wants the planner does not pay for it.
"""

import tasks.explained  # registers the tables that can be printed
import tasks.feed  # registers itself with schedulers
import tasks.filling
import tasks.listing
import tasks.reconcile  # registers itself with agents and schedulers
import tasks.telling
import tasks.tracing
import tasks.turns  # noqa: F401 - and with schedulers
from tasks.batch import batch, control, drain, rebalance, return_
from tasks.hosts import host
from tasks.limits import limits
from tasks.migrate import cancel, migrate
from tasks.phases import begin, confirm, finish, perform, prepare
from tasks.recover import recover
from tasks.resolve import resolve, retry
from tasks.rolls import roll, roll_control
from tasks.tuning import tune

__all__ = [
    "batch",
    "begin",
    "cancel",
    "confirm",
    "control",
    "drain",
    "finish",
    "host",
    "limits",
    "migrate",
    "perform",
    "prepare",
    "rebalance",
    "recover",
    "resolve",
    "retry",
    "return_",
    "roll",
    "roll_control",
    "tune",
]
