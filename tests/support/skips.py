"""What the marks ``lab`` and ``netns`` need, and the count of what was skipped for want of it, as the last line.

Where the environment says CI nothing may be skipped: a skip is a failure there, whoever asked for it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import cache

import pytest

PROGRAMS = ("libvirtd", "virsh", "qemu-system-x86_64", "qemu-img", "as", "ld", "openssl", "ip", "bridge", "tc")
FIXTURES = {"lab": ("lab", "netns_lab"), "netns": ("netns_lab",)}
"""Who uses one of these fixtures has the mark, said or not."""
MAKES_NAMESPACES = ["unshare", "--mount", "--net", "--pid", "--fork", "ip", "link", "add", "lab", "type", "bridge"]

skipped: dict[str, str] = {}
"""Why tests and modules were skipped."""


def in_ci() -> bool:
    """Whether this is a CI run, as its variable ``CI`` says."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false", "no")


@cache
def lacking(mark: str) -> str:
    """Why tests with this mark cannot run here; empty where they can."""
    return {"lab": _lacking_lab, "netns": _lacking_netns}[mark]()


def _lacking_lab() -> str:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"  # as the lab's own commands look
    if missing := [program for program in PROGRAMS if not shutil.which(program, path=path)]:
        verb = "is" if len(missing) == 1 else "are"
        root = " and this is not root" if os.geteuid() else ""
        return f"lab: {', '.join(missing)} {verb} missing{root} (deploy/lab/install)"
    if importlib.util.find_spec("libvirt") is None:
        return "lab: libvirt-python is missing (scripts/bootstrap --libvirt)"
    return ""


def _lacking_netns() -> str:
    if os.geteuid():
        return "netns: needs root"
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    if subprocess.run(MAKES_NAMESPACES, env=environment, check=False, capture_output=True).returncode:
        return "netns: this root may not make network namespaces"
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what cannot run here."""
    for item in items:
        for mark, fixtures in FIXTURES.items():
            if not set(fixtures).isdisjoint(getattr(item, "fixturenames", ())):
                item.add_marker(mark)
        marks = [mark for mark in FIXTURES if item.get_closest_marker(mark)]
        if reason := next(filter(None, map(lacking, marks)), ""):
            item.add_marker(pytest.mark.skip(reason=reason))


def judged(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Keep a skip's reason with its report; in CI make it a failure."""
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    detail = report.longrepr
    reason = str(detail[2] if isinstance(detail, tuple) else detail).removeprefix("Skipped: ")
    report.skip_reason = reason  # travels with the report where tests run in several processes
    if in_ci():
        report.outcome = "failed"
        report.longrepr = f"skipped, and in CI nothing may be skipped: {reason}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """See ``judged``."""
    report = yield
    judged(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Iterator[None]:
    """See ``judged``: a whole module may be skipped."""
    report = yield
    judged(report)
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count a skipped test."""
    _count(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Count a skipped module, once: each process that runs tests collects it."""
    _count(report)


def _count(report: pytest.TestReport | pytest.CollectReport) -> None:
    if hasattr(report, "skip_reason"):
        skipped[report.nodeid] = report.skip_reason


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """Say what was skipped and why, after everything else."""
    yield
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and not session.config.option.collectonly:
        reasons = "; ".join(f"{count} {reason}" for reason, count in Counter(skipped.values()).most_common())
        reporter.write_line(f"skipped {len(skipped)}: {reasons}" if reasons else "skipped 0")
