"""Every task belongs to the trace that its arguments or its message's header tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery import Task
from celery.signals import task_postrun, task_prerun

from worker import trace


@task_prerun.connect(weak=False)
def _begins(task: Task[..., Any], kwargs: object = None, **_: object) -> None:
    asked = kwargs.get(trace.HEADER) if isinstance(kwargs, Mapping) else None
    trace.bind(asked or (task.request.headers or {}).get(trace.HEADER))


@task_postrun.connect(weak=False)
def _is_over(**_: object) -> None:
    trace.bind("")
