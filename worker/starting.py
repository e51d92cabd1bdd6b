"""Garbage collection while a process starts: almost everything that importing makes is kept, so looking is in vain."""

from __future__ import annotations

import gc

USUAL = gc.get_threshold()
OBJECTS = 150_000
"""A scheduler or agent has made about 106,000 when it is ready; looking at them again and again was a tenth of its
start. Twice what a short command ever makes, so that one which goes on for long is collected all the same."""


def begin() -> None:
    """Look for garbage rarely from now on."""
    gc.set_threshold(OBJECTS)


def ready() -> None:
    """What there is stays, and is never looked at again; from now on garbage is looked for as usual."""
    gc.freeze()
    gc.set_threshold(*USUAL)
