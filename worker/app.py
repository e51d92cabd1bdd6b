"""The Celery application and its configuration; ``celery -A worker`` finds it.

Celery is the doorbell and the journal the truth, so messages of phases are acknowledged early and never fetched
ahead: a lost message is republished from the journal's outbox, a duplicate dies at its claim. A request is not in
the journal yet, so it is acknowledged when it is done (``journal/intake.py``).
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from celery import Celery
from celery.signals import setup_logging

from worker import log
from worker.contract import BATCH, CANCEL, CONTROL, DRAIN, MIGRATE, REBALANCE, RETURN, ROLL, SCHEDULER_QUEUE
from worker.errors import SettingsError
from worker.settings import Settings, current

SERVED_AGAIN = (MIGRATE, CANCEL, BATCH, REBALANCE, DRAIN, RETURN, CONTROL, ROLL)
"""The requests that change nothing where they are served twice."""
SERVER = {
    # A half-open connection otherwise hangs a worker's main loop for ever.
    "socket_timeout": 5,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    # A connection that went silent is found out after so long and a second.
    "health_check_interval": 2,
}


def create_app(settings: Settings, *, answers: bool = True) -> Celery:
    """The application for these settings; without ``answers`` one that only sends.

    With a result back end Celery subscribes to the result of whatever it sends, until that is fetched: in a process
    that lives long and sends much, that is a leak.
    """
    backend = settings.redis_url if answers else "disabled://"
    app = Celery(
        "vmrelay", broker=settings.redis_url, backend=backend, include=["tasks.registry"], set_as_current=answers
    )
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
        timezone="UTC",
        task_default_queue=SCHEDULER_QUEUE,
        task_acks_late=False,
        # Not tune: served again after another wish, it would undo that one. Who gets no answer asks again.
        task_annotations={name: {"acks_late": True} for name in SERVED_AGAIN},
        task_ignore_result=True,
        worker_disable_prefetch=True,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        # What runs waits for Redis to come back; a thread could not be stopped anyway.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_send_task_events=settings.task_events,
        task_send_sent_event=settings.task_events,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,
        broker_transport_options=SERVER,
        task_publish_retry_policy={
            "max_retries": 60,
            "interval_start": 0.2,
            "interval_step": 0.5,
            "interval_max": 2,
        },
        redis_socket_timeout=5,
        redis_socket_connect_timeout=5,
        redis_socket_keepalive=True,
        redis_backend_health_check_interval=15,
        result_expires=settings.keep_seconds,
    )
    return app


def _own_tasks() -> None:
    """Raises ``SettingsError`` where another package called ``tasks`` hides ours."""
    found = find_spec("tasks")
    ours = Path(__file__).resolve().parent.parent / "tasks"
    if found is None or found.origin is None or Path(found.origin).resolve().parent != ours:
        raise SettingsError(
            f"the package 'tasks' is {found.origin if found else 'missing'}, not vmrelay's {ours}; "
            "install vmrelay in an environment of its own"
        )


@setup_logging.connect(weak=False)
def _configure_logs(**_: object) -> None:
    log.configure(current())


_own_tasks()
app = create_app(current())
