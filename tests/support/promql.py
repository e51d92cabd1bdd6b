"""What a PromQL expression names: metrics, their labels, and values of these."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import promql_parser

CHILDREN = ("lhs", "rhs", "expr", "param", "vector_selector")
Series = Sequence[Mapping[str, str]]
"""Label sets, with the metric's name as ``__name__``."""


@dataclass(frozen=True)
class Named:
    """A label that an expression names, and the metrics one of which must have it; no label: the metrics themselves."""

    metrics: frozenset[str]
    label: str = ""
    value: str = ""
    """Where one is asked for."""


def named(expr: str) -> list[Named]:
    """Everything that an expression names. Raises ``ValueError`` where it does not parse."""
    return list(_walk(promql_parser.parse(expr)))


def metrics(expr: str) -> set[str]:
    """The metrics of an expression."""
    return {name for each in named(expr) for name in each.metrics}


def _walk(node: Any) -> Iterator[Named]:
    if isinstance(node, promql_parser.VectorSelector):
        yield Named(frozenset({node.name}))
        for matcher in node.matchers.matchers:
            for value in _values(matcher):
                yield Named(frozenset({node.name}), matcher.name, value)
        return
    below = [each for child in _children(node) for each in _walk(child)]
    yield from below
    beneath = frozenset(name for each in below for name in each.metrics)
    if beneath:
        yield from (Named(beneath, label) for label in _grouped(node))


def _values(matcher: Any) -> list[str]:
    """What is asked for by name; an empty text where any other value would do."""
    if matcher.op == promql_parser.MatchOp.Equal:
        return [matcher.value]
    if matcher.op == promql_parser.MatchOp.Re:
        return [value if re.fullmatch(r"[\w-]*", value) else "" for value in matcher.value.split("|")]
    return [""]


def _children(node: Any) -> Iterator[Any]:
    yield from (child for name in CHILDREN if (child := getattr(node, name, None)) is not None)
    yield from getattr(node, "args", None) or ()


def _grouped(node: Any) -> list[str]:
    """The labels of by() and on(); those of without() need not exist."""
    modifier = getattr(node, "modifier", None)
    if isinstance(node, promql_parser.BinaryExpr) and modifier is not None:
        modifier = modifier.matching
    kept = (promql_parser.AggModifierType.By, promql_parser.LabelModifierType.Include)
    return list(modifier.labels) if modifier is not None and modifier.type in kept else []


def missing(expr: str, series: Series, unseen: Mapping[str, set[str]]) -> list[str]:
    """What an expression names and nobody serves; ``unseen`` are the labels of metrics that have no series yet."""
    labels: dict[str, dict[str, set[str]]] = {}
    for each in series:
        for label, value in each.items():
            labels.setdefault(each["__name__"], {}).setdefault(label, set()).add(value)
    wrong = []
    for each in named(expr):
        seen = [labels[name] for name in each.metrics if name in labels]
        told = [unseen[name] for name in each.metrics if name not in labels and name in unseen]
        if len(seen) + len(told) < len(each.metrics):
            wrong.append(f"no metric {sorted(each.metrics - labels.keys() - unseen.keys())}")
        elif each.label and not any(each.label in one for one in (*seen, *told)):
            wrong.append(f"no label {each.label} of {sorted(each.metrics)}")
        elif each.value and seen and not any(each.value in one.get(each.label, ()) for one in seen):
            wrong.append(f"no {each.label}={each.value!r} of {sorted(each.metrics)}")
    return wrong
