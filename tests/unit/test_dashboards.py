"""The committed dashboards: as their generator makes them, and as Grafana's own linter would have them.

The rules are those of grafana/dashboard-linter (docs/rules), but one: no panel is chosen by ``instance``, since
counters of the journal go from one scheduler to another, and histograms are summed over agents.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from bench.monitoring.dashboards import FOLDER, Span, filled, label_values, load, panels

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "deploy" / "grafana"
Json = dict[str, Any]
DASHBOARDS = load()
PANELS = [
    pytest.param(each, panel, id=f"{each['uid']}: {panel['title']}") for each in DASHBOARDS for panel in panels(each)
]
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
UNITS = {"none", "cpm", "s", "bytes", "binBps", "percentunit", "ops", "dateTimeFromNow"}
VALUES = {"job": "(vmrelay)", "flags": ".*", "driver": ".*", "host": "alpha", "redis": "(a)"}
COLOURS = {"green", "yellow", "red", "blue", "purple", "text"}
OF_REDIS = "redis_"


def substituted(expr: str) -> str:
    """An expression with every variable filled in."""
    return filled(expr, VALUES | Span(0, 3600, 15).words())


def queries(dashboard: Json) -> Iterator[str]:
    """All expressions of a dashboard as they stand there, and the selectors of its variables."""
    for panel in panels(dashboard):
        yield from (target["expr"] for target in panel["targets"])
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield label_values(variable["query"]["query"])[0]


def test_the_committed_files_are_what_the_generator_makes() -> None:
    """``scripts/dashboards --check`` has nothing to say."""
    done = subprocess.run(
        [sys.executable, GRAFANA / "generate", "--check"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_each_dashboard_can_be_told_from_the_others() -> None:
    """Own uid, title and tag; a description; a schema that Grafana 9 to 13 load; nobody edits it in place."""
    assert len(DASHBOARDS) == 5
    for field in ("uid", "title"):
        assert len({each[field] for each in DASHBOARDS}) == 5
    for each in DASHBOARDS:
        assert re.fullmatch(r"vmrelay-[a-z]+", each["uid"])
        assert each["description"]
        assert (each["tags"], each["id"], each["editable"], each["schemaVersion"]) == (["vmrelay"], None, False, 39)
        assert each["refresh"] == "30s"
        assert {"type": "dashboards", "tags": ["vmrelay"]}.items() <= each["links"][0].items()
        assert each["links"][0]["includeVars"]
        assert each["links"][0]["keepTime"]


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda each: each["uid"])
def test_panels_have_places_of_their_own(dashboard: Json) -> None:
    """Ids are unique, nothing overlaps or leaves the grid of 24 columns, and no panel stands without a heading."""
    every = dashboard["panels"]
    assert max(Counter(panel["id"] for panel in every).values()) == 1
    assert every[0]["type"] == "row"
    places = [panel["gridPos"] for panel in every]
    for place in places:
        assert place["x"] >= 0
        assert place["w"] > 0
        assert place["x"] + place["w"] <= 24
    for one, other in combinations(places, 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)


@pytest.mark.parametrize(("dashboard", "panel"), PANELS)
def test_a_panel_says_what_it_shows(dashboard: Json, panel: Json) -> None:
    """Title, description as a sentence, unit, data source by variable, thresholds that begin at a base and rise."""
    assert panel["title"]
    assert re.fullmatch(r".{20,}\.", panel["description"])
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["unit"] in UNITS
    assert panel["datasource"] == SOURCE
    assert panel["targets"]
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    for target in panel["targets"]:
        assert target["datasource"] == SOURCE
        assert target["instant"] is not target["range"]
    first, *steps = defaults["thresholds"]["steps"]
    assert first["value"] is None
    assert [step["value"] for step in steps] == sorted({step["value"] for step in steps})
    assert {step["color"] for step in (first, *steps)} <= COLOURS
    if panel["type"] == "timeseries" and len(panel["targets"]) > 1:
        assert all(target["legendFormat"] != "__auto" for target in panel["targets"]), "series cannot be told apart"


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda each: each["uid"])
def test_variables_are_filled_by_what_there_is(dashboard: Json) -> None:
    """A data source, then label_values() that are asked again with another range; each is used, none is missing."""
    source, *others, runbooks = dashboard["templating"]["list"]
    assert (runbooks["name"], runbooks["type"], runbooks["hide"]) == ("runbooks", "constant", 2)
    assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
    names = [variable["name"] for variable in others]
    assert names[0] == "job"
    for variable in others:
        assert (variable["type"], variable["refresh"], variable["datasource"]) == ("query", 2, SOURCE)
        assert variable["label"]
        promql_parser.parse(substituted(label_values(variable["query"]["query"])[0]))
    text = " ".join([*queries(dashboard), *(panel["title"] for panel in dashboard["panels"])])
    used = {found[1] or found[2] for found in re.finditer(r"\$(?:\{(\w+)\}|(\w+))", text)}
    assert {name for name in used if not name.startswith("__")} == set(names)


@pytest.mark.parametrize(("dashboard", "panel"), PANELS)
def test_queries_are_well_formed(dashboard: Json, panel: Json) -> None:
    """Each parses, asks for the chosen jobs, and takes rates over ``$__rate_interval`` or a range that is named."""
    for target in panel["targets"]:
        expr = target["expr"]
        promql_parser.parse(substituted(expr))
        for name, matchers in selectors(expr):
            if name.startswith(OF_REDIS):
                assert 'instance=~"$redis"' in matchers
            elif not name.startswith("vmrelay:"):  # objectives, of all relays
                assert 'job=~"$job"' in matchers, (name, matchers)
        for window in re.findall(r"\[([^\]:]+):?\]", expr):
            assert window in ("$__rate_interval", "$__range", "1h"), expr
        if not target["instant"]:
            assert "$__range" not in expr, "a graph of it would ask for more and more"


def selectors(expr: str) -> Iterator[tuple[str, str]]:
    """Names of metrics, each with the matchers behind it."""
    for name, matchers in re.findall(r"\b((?:vmrelay|relay|outcome|process|redis|up)[\w:]*)(\{[^}]*\})?", expr):
        if matchers or ":" in name:
            yield name, matchers


def test_links_lead_somewhere() -> None:
    """Runbooks of panels and dashboards of alerts and panels exist; every alert's runbook stands at some panel."""
    told = {link["url"] for each in DASHBOARDS for panel in panels(each) for link in panel.get("links", [])}
    books = {url.removeprefix("${runbooks}/") for url in told}
    assert all((ROOT / "docs/runbooks" / book).is_file() for book in books)
    groups = yaml.safe_load((ROOT / "deploy/prometheus/rules/alerts.yml").read_text())["groups"]
    alerts = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    assert {f"{alert['alert']}.md" for alert in alerts} <= books
    uids = {each["uid"] for each in DASHBOARDS}
    shown = [alert["annotations"]["dashboard_url"] for alert in alerts]
    shown += [
        link["url"]
        for each in DASHBOARDS
        for panel in panels(each)
        for link in panel["fieldConfig"]["defaults"].get("links", [])
    ]
    assert {re.sub(r"^/d/([\w-]+).*", r"\1", url) for url in shown} <= uids


def test_provisioning_names_what_there_is() -> None:
    """Data source and dashboards, with addresses and paths from the environment; both files are YAML of version 1."""
    (sources,) = (yaml.safe_load(file.read_text()) for file in (GRAFANA / "provisioning/datasources").iterdir())
    (providers,) = (yaml.safe_load(file.read_text()) for file in (GRAFANA / "provisioning/dashboards").iterdir())
    assert sources["apiVersion"] == providers["apiVersion"] == 1
    (source,), (provider,) = sources["datasources"], providers["providers"]
    assert (source["type"], source["url"]) == ("prometheus", "$PROMETHEUS_URL")
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]
    assert config["global"]["evaluation_interval"] == config["global"]["scrape_interval"], "subqueries count on it"
    assert (provider["type"], provider["options"]["path"]) == ("file", "$VMRELAY_DASHBOARDS")
    assert provider["allowUiUpdates"] is False
    assert sorted(file.stem for file in FOLDER.iterdir()) == sorted(
        each["uid"].removeprefix("vmrelay-") for each in DASHBOARDS
    )
