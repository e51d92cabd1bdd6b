"""What was asked for, and what became of it. The rows outlive the relay's own memory of a migration."""

import uuid

from django.conf import settings
from django.db import models
from django.urls import reverse


class Move(models.Model):
    """One request to move a guest to another host."""

    class State(models.TextChoices):
        """The states of vmrelay_client.Migration, and one before them: the row is there, the request is not sent."""

        UNSENT = "unsent", "to be sent"
        WAITING = "waiting", "waiting for its turn"
        RUNNING = "running", "under way"
        SUCCEEDED = "succeeded", "moved"
        FAILED = "failed", "failed"
        CANCELLED = "cancelled", "cancelled"
        REJECTED = "rejected", "refused"
        IN_DOUBT = "in-doubt", "in doubt: an operator has to look"

    OVER = (State.SUCCEEDED, State.FAILED, State.CANCELLED, State.REJECTED)

    # Made with the form, and sent as idempotency key: the same click twice is one row, and the same row twice is
    # one migration.
    key = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
    guest = models.CharField(max_length=200)
    destination = models.CharField(max_length=200)
    reason = models.CharField(max_length=200, blank=True)
    who = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT)
    asked = models.DateTimeField(auto_now_add=True)
    state = models.CharField(max_length=10, choices=State, default=State.UNSENT, db_index=True)
    detail = models.TextField(blank=True)
    migration = models.CharField(max_length=128, blank=True, editable=False)

    def get_absolute_url(self) -> str:
        """Its page."""
        return reverse("move", args=[self.pk])

    @property
    def open(self) -> bool:
        """Whether something may still become of it; in doubt is no end."""
        return self.state not in self.OVER
