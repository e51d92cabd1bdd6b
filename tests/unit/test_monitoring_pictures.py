"""What ``make monitoring`` prints and draws: from answers to words and to pictures, without any process."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.monitoring import dashboards
from bench.monitoring.charts import KINDS, Box, nice, pieces, runs, top_of
from bench.monitoring.dashboards import Asked, Line, Span, chosen, filled, label_values, legend
from bench.monitoring.pictures import CAPTION, picture
from bench.monitoring.report import cell, rows, shown

SPAN = Span(1000.0, 1100.0, 1.0)
OVERVIEW = next(each for each in dashboards.load() if each["uid"] == "vmrelay-overview")
UGLY = "<b>&\"'\x07"


def answers(*values: float) -> list[Asked]:
    """Every query of the overview, answered by two series of these values."""
    points = [(SPAN.start + number, value) for number, value in enumerate(values)]
    lines = [Line(name, {"outcome": name, "flags": UGLY, "reason": "r"}, points) for name in ("succeeded", UGLY)]
    return [
        Asked(OVERVIEW["title"], panel, target["expr"], target["expr"], lines)
        for panel in dashboards.panels(OVERVIEW)
        for target in panel["targets"]
    ]


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (0.0123, "s", "12.3 ms"), (4.5, "s", "4.5 s"), (300, "s", "5 min"), (9000, "s", "2.5 h"), (0, "s", "0"),
        (3 * 2**30, "bytes", "3 GiB"), (512, "binBps", "512 B/s"), (0.913, "percentunit", "91.3 %"),
        (12, "none", "12"), (1234.4, "none", "1234"), (60, "cpm", "60/min"), (math.nan, "s", "-"),
        (1_700_000_000_000, "dateTimeFromNow", "22:13:20"),
    ],
)  # fmt: skip
def test_values_are_told_in_their_units(value: float, unit: str, words: str) -> None:
    """As people read them."""
    assert shown(value, unit) == words


def test_a_cell_has_the_highest_first_and_is_cut() -> None:
    """Names and values; what has no number last; the rest counted; nothing said where there is no series."""
    lines = [Line(f"h{number}", {}, [(0, number)]) for number in range(8)] + [Line("none", {}, [(0, math.nan)])]
    assert cell(lines, "none").splitlines() == ["h7 7", "h6 6", "h5 5", "h4 4", "h3 3", "h2 2", "and 3 more"]
    assert cell([], "s") == "nothing"
    assert [title for title, _, _ in rows(answers(1.0))][:2] == ["Moving", "Waiting"]


def test_variables_are_filled_in_as_grafana_does() -> None:
    """All is what the variable says, or every value, escaped for an expression in a string; unknown ones raise."""
    assert filled('m{a=~"$a"}[$__rate_interval]', {"a": "x"} | SPAN.words()) == 'm{a=~"x"}[4000ms]'
    assert chosen({"includeAll": True}, ["a.b", "c"]) == "(a\\\\.b|c)"
    assert chosen({"includeAll": True, "allValue": ".*"}, ["a"]) == ".*"
    assert chosen({"includeAll": False}, ["a", "b"]) == "a"
    assert label_values('label_values(up{job=~"x"}, host)') == ('up{job=~"x"}', "host")
    assert legend("{{host}} in", {"host": "alpha"}) == "alpha in"
    for wrong in (lambda: filled("$nobody", {}), lambda: label_values("query_result(up)")):
        with pytest.raises((KeyError, ValueError)):
            wrong()


@pytest.mark.parametrize("values", [(), (math.nan,), (1.0,), (1.0, math.nan, 3.0, 2.0), (0.0, 0.0)])
def test_a_picture_is_whole_whatever_was_answered(values: tuple[float, ...]) -> None:
    """Well-formed, everything from elsewhere escaped, captioned as what it is, no script; for every row."""
    titles = [panel["title"] for panel in OVERVIEW["panels"] if panel["type"] == "row"]
    drawn = picture(OVERVIEW, answers(*values), SPAN, titles, "alpha")
    root = ElementTree.fromstring(drawn)  # noqa: S314 - our own
    words = " ".join(root.itertext())
    assert CAPTION in words
    assert "Rounds of copying" in words
    assert "<script" not in drawn
    assert "nan" not in drawn.lower()
    with pytest.raises(LookupError):
        picture(OVERVIEW, [], SPAN, ["no such row"])


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_of_panel_is_drawn_inside_its_box(kind: str) -> None:
    """Of every dashboard, with values and without any."""
    for each in dashboards.load():
        for panel in dashboards.panels(each):
            if panel["type"] == kind:
                for lines in ([], [Line("a", {}, [(1000.0, 1.0), (1001.0, 0.0)])]):
                    drawn = "".join(KINDS[kind](panel, lines, SPAN, Box(0, 0, 400, 180)))
                    assert "nan" not in drawn


@given(st.floats(min_value=1e-6, max_value=1e15))
def test_an_axis_ends_above_its_values_and_not_far(value: float) -> None:
    """At a round number, less than two and a half times the highest one; of bytes in steps of 1024."""
    assert value * 0.99 <= nice(value) <= value * 2.5
    assert value * 0.99 <= top_of(value, "bytes") <= max(value * 2.5, 1e-6 * 2.5)
    assert nice(0) == 1


def test_lines_are_cut_where_nothing_was_measured() -> None:
    """At values that are no number, and at gaps; bands are joined while a value stays."""
    points = [(0.0, 1.0), (1.0, 1.0), (2.0, math.nan), (3.0, 2.0), (9.0, 2.0)]
    assert pieces(points, 1.0) == [[(0.0, 1.0), (1.0, 1.0)], [(3.0, 2.0)], [(9.0, 2.0)]]
    assert pieces([(0.0, math.nan)], 1.0) == []
    joined = runs([(1000.0, 1.0), (1001.0, 1.0), (1002.0, 0.0), (1005.0, 0.0)], SPAN)
    assert joined == [(1000.0, 1002.0, 1.0), (1002.0, 1003.0, 0.0), (1005.0, 1006.0, 0.0)]
