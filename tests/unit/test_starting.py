"""Garbage collection while a process starts and afterwards."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from worker import starting


@pytest.fixture
def collector() -> Iterator[None]:
    """The collector of this process is as it was, afterwards."""
    usual = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*usual)


def test_garbage_is_looked_for_rarely_at_first_and_then_as_usual(collector: None) -> None:
    """And what was there when the process was ready is never looked at again."""
    starting.begin()
    assert gc.get_threshold()[0] == starting.OBJECTS
    starting.ready()
    assert gc.get_threshold() == starting.USUAL
    assert gc.get_freeze_count() > 0
