"""Enqueue live migrations with vmrelay from a web application.

client = Client.from_celery(app)  # or Client.from_url("https://vmrelay.example", token=token)
migration = client.migrate("web-1", "beta", idempotency_key="order-17", requested_by="anna")
client.status(migration.id).state
"""

from vmrelay_client._client import Client
from vmrelay_client._ids import NAMESPACE, id_of
from vmrelay_client.errors import (
    Cancelled,
    Denied,
    Failed,
    IdempotencyConflict,
    InDoubt,
    Rejected,
    RelayError,
    TimedOut,
    Unavailable,
)
from vmrelay_client.types import Batch, CancelAnswer, ControlAnswer, Event, Migration, Problem

__all__ = [
    "NAMESPACE",
    "Batch",
    "CancelAnswer",
    "Cancelled",
    "Client",
    "ControlAnswer",
    "Denied",
    "Event",
    "Failed",
    "IdempotencyConflict",
    "InDoubt",
    "Migration",
    "Problem",
    "Rejected",
    "RelayError",
    "TimedOut",
    "Unavailable",
    "id_of",
]
