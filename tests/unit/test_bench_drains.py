"""How the benchmark of drains judges what it saw."""

from __future__ import annotations

import pytest

from bench.drains import Span, least_ratio, over_caps


@pytest.mark.parametrize(
    ("spans", "over"),
    [
        ([], 0),
        ([Span("a", "b", 0, 10), Span("a", "c", 5, 12)], 0),
        ([Span("a", "b", 0, 10), Span("a", "c", 1, 10), Span("a", "d", 9, 12)], 1),
        ([Span("a", "b", 0, 10), Span("a", "c", 1, 10), Span("a", "d", 10, 12)], 0),
        ([Span("a", "z", 0, 9), Span("b", "z", 1, 9), Span("c", "z", 2, 9), Span("d", "z", 3, 9)], 2),
    ],
    ids=["nothing", "within", "three leave", "gave back in time", "four arrive"],
)
def test_a_start_that_finds_a_host_full_is_counted(spans: list[Span], over: int) -> None:
    """Each start beyond the limit counts, in either direction; a slot given back in the same millisecond is free."""
    assert over_caps(spans, 2) == over


def test_progress_is_compared_while_both_drains_go_on() -> None:
    """The beginning, where one move is a large share, and the time after the faster one's end do not count."""
    assert least_ratio([(0.0, 0.05), (0.2, 0.25), (0.5, 0.45), (0.9, 1.0)]) == 0.8
    assert least_ratio([]) == 1.0
