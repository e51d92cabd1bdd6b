"""The Celery tasks: what a web application enqueues, and the phases of a migration.

An application does not import these: it enqueues ``vmrelay.v1.migrate``, ``vmrelay.v1.cancel`` and
``vmrelay.v1.tune`` by name on the queue ``scheduler``, with the JSON documents of ``worker/contract.py``.
"""

import tasks.reconcile  # noqa: F401 - registers itself with agents and schedulers
from tasks.migrate import cancel, migrate
from tasks.phases import begin, confirm, finish, perform, prepare
from tasks.recover import recover
from tasks.tuning import tune

__all__ = ["begin", "cancel", "confirm", "finish", "migrate", "perform", "prepare", "recover", "tune"]
