"""``among`` rules by label, spelled out: from here on every such rule names the hosts of its parts."""

from __future__ import annotations

from worker.contract.names import HostName
from worker.contract.plans import Problem, Rule

Parts = tuple[tuple[HostName, ...], ...]


def spelled_out(problem: Problem) -> Problem:
    """The same problem with ``parts`` for every ``among`` rule; rules with one label share them."""
    known: dict[str, Parts] = {}

    def whole(rule: Rule) -> Rule:
        if rule.kind != "among" or rule.parts or not rule.label:
            return rule
        if rule.label not in known:
            known[rule.label] = rule.sets(problem.hosts)
        return rule.model_copy(update={"parts": known[rule.label]})

    return problem.model_copy(update={"rules": tuple(map(whole, problem.rules))})
