"""What a scheduler makes of a request's message, whichever Celery sent it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tasks.batch import batch
from tasks.migrate import Entry, migrate
from worker.app import app


@pytest.mark.parametrize("said", [False, None, True])
@pytest.mark.parametrize("task", [migrate, batch], ids=["migrate", "batch"])
def test_no_message_makes_the_entry_store_a_result_of_its_own(task: object, said: bool | None) -> None:
    """Celery 5.3 to 5.6 say false where nobody asked, and SUCCESS would be shown before the migration has begun."""
    name = task.name  # type: ignore[attr-defined]
    headers, properties, body, _ = app.amqp.as_task_v2("m-1", name, kwargs={}, ignore_result=said)
    coded = {"content_type": "application/json", "content_encoding": "utf-8", "delivery_info": {}}
    message = SimpleNamespace(headers=headers, properties=properties, body=body, payload=body, **coded)
    for given in (None, headers):
        request = Entry(message, task=task, app=app, headers=given)
        assert request.ignore_result is True
        assert request.request_dict["ignore_result"] is True
    assert headers["ignore_result"] is said
