"""The Celery tasks: what a web application enqueues, and the phases of a migration.

An application does not import these: it enqueues ``vmrelay.v1.migrate``, ``cancel``, ``tune``, ``resolve`` and
``retry`` by name on the queue ``scheduler``, with the JSON documents of ``worker/contract/``.
"""

import tasks.explained  # registers the tables that can be printed
import tasks.feed  # registers itself with schedulers
import tasks.filling
import tasks.reconcile  # registers itself with agents and schedulers
import tasks.turns  # noqa: F401 - and with schedulers
from tasks.batch import batch, control, drain, rebalance, return_
from tasks.hosts import host
from tasks.limits import limits
from tasks.migrate import cancel, migrate
from tasks.phases import begin, confirm, finish, perform, prepare
from tasks.recover import recover
from tasks.resolve import resolve, retry
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
    "tune",
]
