"""A dashboard as Grafana's classic JSON, panels placed from left to right.

The schema is version 39 of the first one, which Grafana 9 to 13 load: panels in a grid of 24 columns, a data source by
variable.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from string import ascii_uppercase
from typing import Any

from kit import RED, Dashboard, Panel, Query, Row, Variable

SCHEMA = 39
COLUMNS = 24
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
TAG = "vmrelay"
RUNBOOKS = "docs/runbooks"
Json = dict[str, Any]


def document(dashboard: Dashboard) -> Json:
    """The dashboard as Grafana loads it from a file."""
    return {
        "annotations": {"list": [_firing()]},
        "description": dashboard.description,
        "editable": False,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,
        "id": None,
        "links": [_siblings(), _link("Runbooks", "${runbooks}/README.md")],
        "panels": list(_placed(dashboard.rows)),
        "refresh": "30s",
        "schemaVersion": SCHEMA,
        "tags": [TAG],
        "templating": {"list": [_source(), *(_variable(each) for each in dashboard.variables), _runbooks()]},
        "time": {"from": dashboard.since, "to": "now"},
        "timepicker": {},
        "timezone": "",
        "title": dashboard.title,
        "uid": dashboard.uid,
        "version": 1,
        "weekStart": "",
    }


# -- places ---------------------------------------------------------------------------------------


def _placed(rows: Sequence[Row]) -> Iterator[Json]:
    numbers, y = count(1), 0
    for row in rows:
        yield {
            "collapsed": False,
            "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": y},
            "id": next(numbers),
            "panels": [],
            "title": row.title,
            "type": "row",
        }
        y, x, tallest = y + 1, 0, 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                y, x, tallest = y + tallest, 0, 0
            place = {"h": panel.height, "w": panel.width, "x": x, "y": y}
            yield _panel(panel) | {"id": next(numbers), "gridPos": place}
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest


# -- panels ---------------------------------------------------------------------------------------


def _panel(panel: Panel) -> Json:
    targets = zip(panel.queries, ascii_uppercase, strict=False)
    made = {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "targets": [_target(query, letter, panel.kind) for query, letter in targets],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": [_colour(*each) for each in panel.colours]},
        "options": OPTIONS[panel.kind],
    }
    if panel.runbook:
        address = f"${{runbooks}}/{panel.runbook}.md"
        made["links"] = [{"targetBlank": True, "title": "Runbook", "url": address}]
    if panel.kind == "table":
        made["transformations"] = [_columns(panel)]
    return made


def _target(query: Query, letter: str, kind: str) -> Json:
    return {
        "datasource": SOURCE,
        "editorMode": "code",
        "expr": query.expr,
        "format": "table" if kind == "table" else "time_series",
        "instant": query.once,
        "legendFormat": query.legend or "__auto",
        "range": not query.once,
        "refId": letter,
    }


def _defaults(panel: Panel) -> Json:
    steps = [{"color": panel.base, "value": None}, *({"color": c, "value": v} for v, c in panel.limits)]
    graph = panel.kind == "timeseries"
    made: Json = {
        "color": {"mode": "palette-classic" if graph else "thresholds"},
        "custom": _custom(panel),
        "mappings": [_words(panel)] if panel.words else [],
        "thresholds": {"mode": "absolute", "steps": steps},
        "unit": panel.unit,
    }
    optional = {"decimals": panel.decimals, "min": panel.least, "noValue": panel.none or None}
    if panel.link:
        made["links"] = [{"title": panel.link[0], "url": panel.link[1]}]
    return made | {name: value for name, value in optional.items() if value is not None}


def _custom(panel: Panel) -> Json:
    if panel.kind == "state-timeline":
        return {"fillOpacity": 80, "lineWidth": 0}
    if panel.kind != "timeseries":
        return {}
    return {
        "drawStyle": "bars" if panel.stacked else "line",
        "fillOpacity": 80 if panel.stacked else 10,
        "lineWidth": 1,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if panel.stacked else "none"},
        "thresholdsStyle": {"mode": "dashed" if panel.limits else "off"},
    }


def _words(panel: Panel) -> Json:
    options = {value: {"color": c, "index": n, "text": text} for n, (value, text, c) in enumerate(panel.words)}
    return {"options": options, "type": "value"}


def _colour(name: str, colour: str) -> Json:
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": "color", "value": {"fixedColor": colour, "mode": "fixed"}}],
    }


def _columns(panel: Panel) -> Json:
    order = {label: number for number, (label, _) in enumerate(panel.columns)}
    names = {label: heading for label, heading in panel.columns if label != heading}
    return {
        "id": "organize",
        "options": {"excludeByName": {"Time": True}, "indexByName": order, "renameByName": names},
    }


_LAST = {"calcs": ["lastNotNull"], "fields": "", "values": False}
OPTIONS: dict[str, Json] = {
    "timeseries": {
        "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "colorMode": "value",
        "graphMode": "area",
        "justifyMode": "auto",
        "orientation": "auto",
        "reduceOptions": _LAST,
        "textMode": "auto",
    },
    "bargauge": {"displayMode": "basic", "orientation": "horizontal", "reduceOptions": _LAST, "showUnfilled": True},
    "table": {"cellHeight": "sm", "showHeader": True},
    "state-timeline": {
        "alignValue": "left",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False},
        "mergeValues": True,
        "rowHeight": 0.8,
        "showValue": "auto",
        "tooltip": {"mode": "single", "sort": "none"},
    },
}


# -- variables and links --------------------------------------------------------------------------


def _source() -> Json:
    return {
        "current": {},
        "hide": 0,
        "includeAll": False,
        "label": "Data source",
        "multi": False,
        "name": "datasource",
        "options": [],
        "query": "prometheus",
        "refresh": 1,
        "regex": "",
        "type": "datasource",
    }


def _variable(variable: Variable) -> Json:
    made: Json = {
        "hide": 0,
        "label": variable.title,
        "name": variable.name,
        "datasource": SOURCE,
        "definition": variable.values,
        "includeAll": variable.many,
        "multi": variable.many,
        "options": [],
        "query": {"query": variable.values, "refId": variable.name},
        "refresh": 2,
        "regex": "",
        "sort": 1,
        "type": "query",
    }
    if variable.everything:
        made["allValue"] = variable.everything
    return made | {"current": {"selected": True, "text": ["All"], "value": ["$__all"]} if variable.many else {}}


def _runbooks() -> Json:
    """Where docs/runbooks can be read: replace it by an address of your own."""
    chosen = {"selected": True, "text": RUNBOOKS, "value": RUNBOOKS}
    return {
        "current": chosen,
        "hide": 2,
        "label": "Runbooks",
        "name": "runbooks",
        "options": [chosen],
        "query": RUNBOOKS,
        "skipUrlSync": True,
        "type": "constant",
    }


def _siblings() -> Json:
    return _link("vmrelay", "", "dashboards") | {"tags": [TAG], "icon": "external link"}


def _link(title: str, url: str, kind: str = "link") -> Json:
    return {
        "asDropdown": False,
        "icon": "doc",
        "includeVars": kind == "dashboards",
        "keepTime": kind == "dashboards",
        "tags": [],
        "targetBlank": kind == "link",
        "title": title,
        "tooltip": "",
        "type": kind,
        "url": url,
    }


def _firing() -> Json:
    """Alerts of the relay, drawn over every graph while they fire."""
    return {
        "datasource": SOURCE,
        "enable": True,
        "expr": 'ALERTS{alertstate="firing", alertname=~"Vmrelay.+"}',
        "hide": False,
        "iconColor": RED,
        "name": "Firing alerts",
        "titleFormat": "{{alertname}}",
    }
