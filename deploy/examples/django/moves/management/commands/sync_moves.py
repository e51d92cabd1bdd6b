"""``manage.py sync_moves``: from cron or a systemd timer, once a minute."""

from django.core.management.base import BaseCommand

from moves import relay
from moves.models import Move


class Command(BaseCommand):
    """Send what could not be sent, and note what ended while nobody looked."""

    help = __doc__

    def handle(self, *args: object, **options: object) -> None:
        """Look at every open move once."""
        for row in Move.objects.exclude(state__in=Move.OVER).order_by("pk"):
            if row.migration:
                relay.look(row)
            elif not relay.send(row):
                break  # it is away for the others, too
