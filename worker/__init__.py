"""What a worker process is made of; it knows nothing of the tasks that run in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celery import Celery


def __getattr__(name: str) -> Celery:
    """``celery -A worker`` finds the application here, without an import at load time."""
    if name != "celery":
        raise AttributeError(name)
    from worker.app import app

    return app
