"""What every process of vmrelay has in common: settings, inventory, journal."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from worker.inventory import Inventory
from worker.journal import Journal, connect
from worker.settings import Settings, current


@dataclass(frozen=True, slots=True)
class Runtime:
    """The shared parts of one process."""

    settings: Settings
    inventory: Inventory
    journal: Journal


def assemble(settings: Settings) -> Runtime:
    """The parts that these settings describe; connects lazily."""
    return Runtime(settings, Inventory(settings), Journal(connect(settings.redis_url), settings.key_prefix))


@cache
def runtime() -> Runtime:
    """The parts of this process, made once. Raises ``SettingsError``."""
    return assemble(current())
