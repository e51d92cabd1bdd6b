"""Pictures of plans: well-formed, harmless, the same for the same plan, for one host and for a thousand."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_lab import HOSTILE, a_plan, impossible

from worker.cli.plan_bars import ASCII, FEW, UNICODE, bar, letters_for, picture
from worker.cli.plan_picture import flows, svg
from worker.contract.plans import Load

NAMESPACE = "{http://www.w3.org/2000/svg}"


def parsed(text: str) -> ElementTree.Element:
    """The picture as XML."""
    return ElementTree.fromstring(text)  # noqa: S314 - our own picture


def words(picture: ElementTree.Element) -> str:
    """All that it says."""
    return "\n".join(picture.itertext())


@pytest.mark.parametrize("hosts", [0, 1, 3, FEW, FEW + 1, 300, 1000])
def test_a_picture_is_an_svg_that_names_what_matters(hosts: int) -> None:
    """Over sizes: it parses, it has a size, it says how many moves there are; a host shows before and after."""
    plan = a_plan(hosts or 1)
    plan = plan if hosts else plan.model_copy(update={"hosts": ()})
    drawn = parsed(svg(plan))
    assert drawn.tag == f"{NAMESPACE}svg"
    assert float(drawn.attrib["width"]) > 0 < float(drawn.attrib["height"])
    assert f"{plan.totals.moves} moves" in words(drawn)
    assert ("host-1" in words(drawn)) is bool(hosts)


def test_everything_lies_inside() -> None:
    """Rectangles and texts begin within the page, whatever a host's load is."""
    plan = a_plan(12)
    full = plan.hosts[0].model_copy(update={"before": Load(cpu=1.7, memory=1.2, guests=4), "peak_memory": 1.4})
    drawn = parsed(svg(plan.model_copy(update={"hosts": (full, *plan.hosts[1:])})))
    width, height = float(drawn.attrib["width"]), float(drawn.attrib["height"])
    for part in drawn.iter():
        x, y = float(part.get("x", 0)), float(part.get("y", 0))
        assert 0 <= x <= width, part.attrib
        assert 0 <= y <= height, part.attrib
        assert x + float(part.get("width", 0)) <= width, part.attrib


@pytest.mark.parametrize("hosts", [3, 300])
def test_hostile_names_stay_text(hosts: int) -> None:
    """What looks like markup, a script or a control character is shown, and is never a part of the document."""
    plan = a_plan(hosts, name=HOSTILE)
    plan = plan.model_copy(update={"id": f"p-{HOSTILE}"})
    text = svg(plan)
    drawn = parsed(text)
    assert not list(drawn.iter(f"{NAMESPACE}b"))
    assert "<b>" in words(drawn)
    assert "<b>" not in text
    assert not {letter for letter in text if not letter.isprintable()} - {"\n"}


def test_a_picture_runs_nothing_and_loads_nothing() -> None:
    """No script, no handler, no link, no style from elsewhere: it may be put on any page."""
    text = svg(a_plan(12))
    assert not re.search(r"<script|<image|<foreignObject|href|\bon\w+=|url\(|@import", text)
    assert re.findall(r"https?://[^\"]*", text) == ["http://www.w3.org/2000/svg"]


def test_the_same_plan_has_the_same_picture() -> None:
    """Nothing in it depends on the moment, or on the order of sets."""
    assert svg(a_plan(12)) == svg(a_plan(12))
    assert svg(a_plan(200)) == svg(a_plan(200))


def test_it_is_for_light_and_dark_pages() -> None:
    """Every colour that is chosen for a light page has another one for a dark page."""
    style = re.search(r"<style>(.*?)</style>", svg(a_plan(3)))
    assert style is not None
    light, dark = style[1].split("@media(prefers-color-scheme:dark)")
    assert set(re.findall(r"\.(\w+)(?=[,{])", light)) - set(re.findall(r"\.(\w+)(?=[,{])", dark)) <= {"small"}


def test_hot_hosts_are_marked_in_words() -> None:
    """Who cannot see red reads it: before, and after where it stays so."""
    plan = a_plan(3)
    assert words(parsed(svg(plan))).split("\n").count("hot") == plan.totals.hot_before == 1
    stays = plan.hosts[0].model_copy(update={"after": plan.hosts[0].before})
    plan = plan.model_copy(update={"hosts": (stays, *plan.hosts[1:])})
    assert words(parsed(svg(plan))).split("\n").count("hot") == 2
    assert "still hot" in "\n".join(picture(plan, 80, UNICODE))


def test_arrows_say_what_goes_where() -> None:
    """Moves between two hosts are one arrow, with the sum of their memory."""
    plan = a_plan(3)
    found = {(flow.source, flow.destination): flow for flow in flows(plan.steps)}
    assert set(found) == {(step.source, step.destination) for step in plan.steps}
    assert sum(flow.gib for flow in found.values()) == pytest.approx(plan.totals.gib)
    told = words(parsed(svg(plan)))
    assert all(f"{flow.source} → {flow.destination}: " in told for flow in found.values())


def test_an_impossible_plan_has_a_picture_too() -> None:
    """Where nothing can be done, the hosts are shown as they are."""
    assert "impossible" in words(parsed(svg(impossible())))


# -- with letters ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("letters", [UNICODE, ASCII])
@pytest.mark.parametrize("hosts", [1, 3, FEW, FEW + 1, 1000])
@pytest.mark.parametrize("width", [20, 80, 200])
def test_a_picture_of_letters_keeps_to_its_width(hosts: int, width: int, letters: object) -> None:
    """Over sizes: no line is wider than the terminal, or than 60 where that is narrower."""
    assert letters in (UNICODE, ASCII)
    lines = picture(a_plan(hosts), width, UNICODE if letters is UNICODE else ASCII)
    assert max(map(len, lines)) <= max(width, 60)
    assert all(line.isascii() for line in lines) is (letters is ASCII)


SHARE = st.floats(0, 3)


@given(SHARE, SHARE, SHARE, st.integers(1, 60))
def test_a_bar_has_its_width(before: float, after: float, ceiling: float, width: int) -> None:
    """Whatever the loads are, the bar is as long as it is to be, and what stays comes first."""
    drawn = bar(before, after, ceiling, width, ASCII)
    assert len(drawn) == width
    assert drawn.count("#") == min(round(min(before, after, 1) * width), width)
    assert drawn.startswith("#" * drawn.count("#"))
    assert not ("-" in drawn and "+" in drawn)


def test_a_bar_shows_what_comes_and_goes() -> None:
    """What stays, what leaves or arrives, what is free, and the ceiling where nothing hides it."""
    assert bar(0.9, 0.6, 0.95, 10, ASCII) == "######---."
    assert bar(0.3, 0.6, 0.8, 10, ASCII) == "###+++..|."
    assert bar(0, 0, 0, 4, ASCII) == "...."


def test_letters_are_those_that_the_terminal_knows() -> None:
    """Where an encoding has no blocks, ASCII is drawn."""

    class Stream:
        def __init__(self, encoding: str | None) -> None:
            self.encoding = encoding

    for encoding, letters in (
        ("utf-8", UNICODE),
        ("ascii", ASCII),
        ("latin-1", ASCII),
        ("nonsense", ASCII),
        (None, ASCII),
    ):
        assert letters_for(Stream(encoding)) is letters  # type: ignore[arg-type]
