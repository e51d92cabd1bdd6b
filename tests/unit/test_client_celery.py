"""The client's Celery connector: what it sends with whichever application, and what it does without Redis."""

from __future__ import annotations

import json
import socket
import threading
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery, current_app
from relay_lab import until
from vmrelay_client import Client, Rejected, TimedOut, Unavailable
from vmrelay_client._celery import own_app

from tasks import results
from worker.embedded import EmbeddedRedis
from worker.errors import Rejected as RelayRejected


def _message(url: str) -> dict[str, Any]:
    """The one message in the scheduler's queue, taken out."""
    with redis.Redis.from_url(url) as server:
        assert server.llen("scheduler") == 1
        told: dict[str, Any] = json.loads(server.rpop("scheduler"))  # type: ignore[arg-type]
        return told


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"task_serializer": "pickle", "accept_content": ["json", "pickle"]},
        {"task_default_queue": "web", "task_create_missing_queues": False},
        {"task_routes": {"vmrelay.*": {"queue": "web"}}},
        {"task_default_priority": 9, "task_ignore_result": True},
    ],
    ids=["plain", "pickle", "declared queues", "routes", "priority"],
)
def test_every_application_sends_the_same_message(redis_url: str, settings: dict[str, Any]) -> None:
    """JSON on the relay's queue, arguments by name, no result wanted, and nobody listening in the web process."""
    application = Celery("shop", broker=redis_url, backend=redis_url, set_as_current=False)
    application.conf.update(settings)
    client = Client.from_celery(application)
    asked = client.migrate("web-1", "beta", idempotency_key="order-17", requested_by="anna", options={"paused": True})
    message = _message(redis_url)
    headers = message["headers"]
    assert (headers["task"], headers["id"], headers["ignore_result"]) == ("vmrelay.v1.migrate", asked.id, True)
    assert (message["content-type"], message["content-encoding"]) == ("application/json", "utf-8")
    args, kwargs, _ = json.loads(b64decode(message["body"]))
    assert (args, kwargs) == (
        [],
        {"domain": "web-1", "destination": "beta", "requested_by": "anna", "options": {"paused": True}},
    )
    with redis.Redis.from_url(redis_url) as server:
        assert server.pubsub_channels("celery-task-meta-*") == []
    application.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"result_backend": None}, "result_backend"),
        ({"result_backend": "cache+memory://"}, "result_backend"),
        ({"broker_url": "memory://"}, "broker"),
        ({"result_backend_transport_options": {"global_keyprefix": "shop_"}}, "result_backend"),
        ({"broker_transport_options": {"global_keyprefix": "shop_"}}, "broker"),
    ],
    ids=["none", "another", "another broker", "prefix of results", "prefix of queues"],
)
def test_an_application_that_looks_elsewhere_is_refused(settings: dict[str, Any], message: str) -> None:
    """Its migrations would wait for ever, or nobody would get its requests: said at once, with the way out."""
    application = Celery("shop", broker="redis://localhost:1", backend="redis://localhost:1", set_as_current=False)
    application.conf.update(settings)
    with pytest.raises(ValueError, match=message) as refused:
        Client.from_celery(application)
    assert "from_url" in str(refused.value)


def test_what_is_no_json_is_the_callers_mistake(redis_url: str) -> None:
    """It is told at once, and nothing is sent."""
    with Client.from_url(redis_url) as client:
        with pytest.raises(TypeError, match="not JSON serializable"):
            client.migrate("web-1", "beta", params={"bandwidth": object()})
        with pytest.raises(ValueError, match="Out of range"):
            client.migrate("web-1", "beta", deadline_seconds=float("nan"))
        with pytest.raises(ValueError, match="at least one host"):
            client.drain([])
    with redis.Redis.from_url(redis_url) as server:
        assert server.keys("scheduler*") == []


def test_without_redis_nothing_waits_long() -> None:
    """A request is Unavailable after a few tries; a wait lasts until its time is up, and says why it knows nothing."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{free.getsockname()[1]}"
    with Client.from_url(url) as client:
        with pytest.raises(Unavailable, match="Redis did not take the request"):
            client.migrate("web-1", "beta")
        with pytest.raises(TimedOut, match="Redis does not answer"):
            client.wait("m-1", 0.1)


def test_a_cancel_without_a_scheduler_says_that_it_waits(redis_url: str) -> None:
    """The request stays in the queue, and the client says so; it listens to nothing afterwards."""
    with Client.from_url(redis_url) as client:
        with pytest.raises(Unavailable, match="waits in the queue"):
            client.cancel("m-1", requested_by="anna", timeout=0.2)
        assert _message(redis_url)["headers"]["task"] == "vmrelay.v1.cancel"
        with redis.Redis.from_url(redis_url) as server:
            assert server.pubsub_channels("celery-task-meta-*") == []


def test_the_documented_user_of_redis_may_ask_and_read_and_nothing_else(
    private_redis: Callable[..., EmbeddedRedis],
) -> None:
    """The rule of the guide is enough for the client, and keeps the application from everything else."""
    page = (Path(__file__).parents[2] / "docs" / "howto" / "web-application.md").read_text()
    rule = next(line for line in page.splitlines() if line.startswith("ACL SETUSER shop ")).split()
    url = private_redis().url
    with redis.Redis.from_url(url) as root:
        assert root.execute_command(*rule) == b"OK"
        root.set(*results.shown("m-9", {"state": "ended"})[:2])
    theirs = url.replace("redis://", "redis://shop:PASSWORD@")
    with Client.from_url(theirs) as client, redis.Redis.from_url(theirs) as shop:
        client.migrate("web-1", "beta")
        client.drain("alpha")
        assert client.status("m-9").state == "succeeded"
        with pytest.raises(Unavailable, match="waits in the queue"):
            client.cancel("m-1", timeout=0.2)
        for forbidden in (
            ("GET", "vmrelay:m:m-9"),
            ("LPUSH", "host.alpha", "{}"),
            ("RPOP", "scheduler"),
            ("SET", "celery-task-meta-m-9", "{}"),
            ("DEL", "celery-task-meta-m-9"),
            ("KEYS", "*"),
            ("EVAL", "return 1", "0"),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                shop.execute_command(*forbidden)
    with redis.Redis.from_url(url) as root:
        assert root.llen("scheduler") == 3


def test_an_answer_is_removed_when_it_was_read(redis_url: str) -> None:
    """A refusal of a cancel has its code, and its result is not left in Redis."""

    refusal = RelayRejected("unknown migration 'm-1'", code="unknown-migration").with_code()

    def serve() -> None:
        with redis.Redis.from_url(redis_url) as server:
            raw = until(lambda: server.rpop("scheduler"), "the request")
            key, text, _ = results.shown(json.loads(raw)["headers"]["id"], refusal)  # type: ignore[arg-type]
            server.set(key, text)

    scheduler = threading.Thread(target=serve)
    scheduler.start()
    with Client.from_url(redis_url) as client, pytest.raises(Rejected) as refused:
        client.cancel("m-1", timeout=30)
    scheduler.join()
    assert (refused.value.code, str(refused.value)) == ("unknown-migration", "unknown migration 'm-1'")
    with redis.Redis.from_url(redis_url) as server:
        assert server.keys("celery-task-meta-*") == []


def test_tls_is_verified_unless_it_is_said_otherwise() -> None:
    """A bare rediss:// would connect to anybody: the client asks for verification."""
    for url, wanted in (
        ("rediss://redis.example:6379/0", "ssl_cert_reqs=required"),
        ("rediss://redis.example:6379/0?ssl_ca_certs=/etc/ca.pem", "&ssl_cert_reqs=required"),
        ("rediss://redis.example:6379/0?ssl_cert_reqs=none", "ssl_cert_reqs=none"),
    ):
        application = own_app(url)
        assert wanted in application.conf.broker_url
        assert application.conf.broker_url == application.conf.result_backend
        assert application.conf.broker_url.count("ssl_cert_reqs") == 1


def test_the_clients_own_application_is_nobody_elses(redis_url: str) -> None:
    """The current Celery application of the process stays what it was."""
    before = current_app._get_current_object()
    with Client.from_url(redis_url):
        assert current_app._get_current_object() is before
