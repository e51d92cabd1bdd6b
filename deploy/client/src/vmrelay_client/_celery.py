"""Ask over Celery: requests are tasks by name, and what is shown is read from the result back end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from celery import Celery
from celery.backends.redis import RedisBackend

from vmrelay_client import _celery_words as words
from vmrelay_client._connector import Arguments, BatchKind
from vmrelay_client._ids import id_of, new_id
from vmrelay_client._waiting import looks
from vmrelay_client.errors import Rejected, TimedOut, Unavailable
from vmrelay_client.types import Batch, CancelAnswer, ControlAnswer, Event, Migration

QUEUE = "scheduler"
TASK = "vmrelay.v1."
BRIEFLY = {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 0.5}
"""How often publishing is tried: a web request waits for it."""
RESULT_KEY = b"celery-task-meta-"
"""Where the relay keeps what it shows; followed by an id."""
SERVER = {"socket_timeout": 5, "socket_connect_timeout": 5, "socket_keepalive": True}


def own_app(url: str) -> Celery:
    """An application of the client's own on the relay's Redis. ``rediss://`` verifies unless the URL says otherwise."""
    if url.startswith("rediss://") and "ssl_cert_reqs=" not in url:
        url += ("&" if "?" in url else "?") + "ssl_cert_reqs=required"
    app = Celery("vmrelay_client", broker=url, backend=url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
        broker_transport_options=SERVER,
        redis_socket_timeout=5,
        redis_socket_connect_timeout=5,
        redis_socket_keepalive=True,
    )
    return app


class OverCelery:
    """The connector over a Celery application whose broker and result back end are the relay's Redis."""

    def __init__(self, app: Celery, scope: str, *, owned: bool) -> None:
        self._app, self._scope, self._owned = app, scope, owned
        _check(app)

    # -- asking -----------------------------------------------------------------------------------

    def submit(self, arguments: Arguments, key: str | None) -> Migration:
        ident = self._send("migrate", arguments, key)
        return Migration(ident, "waiting", text="waits for a scheduler or for its turn", known=False)

    def submit_batch(self, kind: BatchKind, arguments: Arguments, key: str | None) -> Batch:
        return Batch(self._send(kind, arguments, key), "waiting", known=False)

    def cancel(self, migration: str, requested_by: str, seconds: float) -> CancelAnswer:
        told = self._ask("cancel", {"migration": migration, "requested_by": requested_by}, seconds)
        return CancelAnswer(migration, told["answer"], told.get("detail", ""))

    def control(self, arguments: Arguments, seconds: float) -> ControlAnswer:
        told = self._ask("control", arguments, seconds)
        return ControlAnswer(told["batch"], told["answer"], told["state"])

    def _send(self, task: str, arguments: Arguments, key: str | None) -> str:
        """Publish a task whose id is what is asked for."""
        ident = id_of(key, self._scope) if key is not None else new_id()
        # The relay stores what is shown under this id; no result of this very message is to be stored or listened to.
        self._publish(task, arguments, ident, ignore_result=True)
        return ident

    def _ask(self, task: str, arguments: Arguments, seconds: float) -> dict[str, Any]:
        """Publish a task that answers at once, and wait for its answer."""
        ident = new_id()
        self._publish(task, arguments, ident, ignore_result=False)
        try:
            for status, result in looks(self, lambda: self._meta(ident), self.now() + seconds, "the request"):
                if status == "SUCCESS" and isinstance(result, dict):
                    return result
                if status == "FAILURE":
                    refusal = words.problem(type(result).__name__, str(result))
                    raise Rejected(refusal.message, code=refusal.code)
        except TimedOut:
            raise Unavailable(
                f"no scheduler answered within {seconds:g} s; the request waits in the queue until one runs"
            ) from None
        finally:
            self._forget(ident)
        raise AssertionError  # looks() never ends by itself

    def _publish(self, task: str, arguments: Arguments, ident: str, *, ignore_result: bool) -> None:
        # What is not JSON is the caller's mistake and no trouble of Redis.
        kwargs = json.loads(json.dumps(dict(arguments), allow_nan=False))
        try:
            self._app.send_task(
                TASK + task,
                kwargs=kwargs,
                task_id=ident,
                queue=_queue(),
                declare=[],  # it is there, and a user of Redis that may only push need not declare it
                priority=0,
                serializer="json",
                ignore_result=ignore_result,
                add_to_parent=False,
                retry=True,
                retry_policy=BRIEFLY,
            )
        except Exception as lost:  # kombu raises more than OperationalError where a connection is cut
            raise Unavailable(f"Redis did not take the request ({type(lost).__name__}: {lost})") from lost

    # -- looking ----------------------------------------------------------------------------------

    def look(self, migration: str) -> Migration:
        return words.migration(migration, *self._meta(migration))

    def look_batch(self, batch: str) -> Batch:
        return words.batch(batch, *self._meta(batch))

    def follow(self, migration: str, deadline: float | None) -> Iterator[Event]:
        before: Migration | None = None
        for now in looks(self, lambda: self.look(migration), deadline, f"migration {migration}"):
            yield from words.events(before, now, time.time())
            if now.over:
                return
            before = now

    def _meta(self, ident: str) -> tuple[str, object]:
        try:
            meta = self._app.backend.get_task_meta(ident, cache=False)
        except Exception as lost:  # redis-py's, kombu's, or an OSError, by version
            raise Unavailable(f"Redis does not answer ({type(lost).__name__}: {lost})") from lost
        return meta["status"], meta.get("result")

    def _forget(self, ident: str) -> None:
        """Remove an answer that was read, and stop listening for it."""
        with suppress(Exception):  # it expires by itself
            self._app.AsyncResult(ident).forget()

    # -- time -------------------------------------------------------------------------------------

    def now(self) -> float:
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def close(self) -> None:
        if self._owned:
            self._app.close()


def _queue() -> Any:  # noqa: ANN401 - kombu has no types
    """The queue itself, not its name: an application that allows only queues it declares may send there, too."""
    from kombu import Exchange, Queue

    return Queue(QUEUE, Exchange(QUEUE), routing_key=QUEUE)


def _check(app: Celery) -> None:
    """Raises ``ValueError`` where this application would send or look somewhere else than the relay does."""
    key = getattr(app.backend, "get_key_for_task", None)
    if not isinstance(app.backend, RedisBackend) or key is None or key("x") != RESULT_KEY + b"x":
        raise ValueError(
            "the application's result back end is not the relay's Redis (none, another kind, or a key prefix): give it "
            "the relay's redis_url as result_backend, or use Client.from_url"
        )
    broker = app.connection_for_write().transport.driver_type
    if broker != "redis" or (app.conf.broker_transport_options or {}).get("global_keyprefix"):
        raise ValueError("the application's broker is not the relay's Redis, or has a key prefix: use Client.from_url")
