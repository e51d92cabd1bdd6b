"""The committed rules of Prometheus: well formed, each alert with a runbook, a case that fires, one that does not."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import promql
import pytest
import yaml
from prometheus_lab import CONFIG, PROMTOOL

from worker import metrics

ROOT = Path(__file__).parents[2]
RUNBOOKS = ROOT / "docs" / "runbooks"
FILES = sorted(str(file) for file in (CONFIG / "rules").glob("*.yml"))
CASES = sorted((CONFIG / "tests").glob("*.yml"))
RULES: list[dict[str, Any]] = [
    rule for file in FILES for group in yaml.safe_load(Path(file).read_text())["groups"] for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]
SECTIONS = ["Meaning", "Impact", "Look", "Do", "Do not"]
needs_promtool = pytest.mark.skipif(
    not PROMTOOL.exists(), reason=f"{PROMTOOL} is missing (scripts/debian-packages prometheus)"
)
each_alert = pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])


def promtool(*words: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run([str(PROMTOOL), *words], capture_output=True, text=True, check=False)


@needs_promtool
def test_promtool_has_nothing_to_say_about_the_rules() -> None:
    """`check rules --lint=all` finds nothing, and the configuration is valid with the rules that it names."""
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", *FILES)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    done = promtool("check", "config", str(CONFIG / "prometheus.yml"))
    assert done.returncode == 0, done.stderr
    assert f"{len(FILES)} rule files found" in done.stdout


@needs_promtool
@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_the_cases_of_the_alerts_hold(file: Path) -> None:
    """`promtool test rules`: alerts fire and stay silent when the cases say so, with these very words."""
    done = promtool("test", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    """Among the cases of promtool."""
    fires: dict[bool, set[str]] = {True: set(), False: set()}
    for file in CASES:
        for group in yaml.safe_load(file.read_text())["tests"]:
            for case in group.get("alert_rule_test", []):
                fires[bool(case["exp_alerts"])].add(case["alertname"])
    names = {rule["alert"] for rule in ALERTS}
    assert fires == {True: names, False: names}


@each_alert
def test_an_alert_says_what_somebody_at_night_needs(rule: dict[str, Any]) -> None:
    """How bad, what, and where to read on."""
    severity, notes = rule["labels"]["severity"], rule["annotations"]
    assert set(re.sub(r"\{\{.*?\}\}", " ", severity).split()) <= {"page", "ticket", "info"}
    assert set(notes) == {"summary", "description", "runbook_url", "dashboard_url"}
    assert len(notes["summary"]) < 80
    assert notes["description"].endswith(".")
    boards = {f"/d/vmrelay-{file.stem}" for file in (ROOT / "deploy/grafana/dashboards").glob("*.json")}
    assert notes["dashboard_url"].partition("?")[0] in boards


@each_alert
def test_every_alert_has_a_runbook(rule: dict[str, Any]) -> None:
    """Meaning, impact, the commands to look with, what to do, what not to do; and the index names it."""
    page = RUNBOOKS / f"{rule['alert']}.md"
    assert rule["annotations"]["runbook_url"] == str(page.relative_to(ROOT))
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {rule['alert']}: ")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS
    assert re.search(r"^vmrelay ", text, re.MULTILINE), "no command to look with"
    assert f"[{rule['alert']}]({page.name})" in (RUNBOOKS / "README.md").read_text(encoding="utf-8")


def test_there_is_no_runbook_without_an_alert() -> None:
    """A page that nothing leads to is of the past."""
    assert {page.stem for page in RUNBOOKS.glob("*.md")} == {"README", *(rule["alert"] for rule in ALERTS)}


def test_nothing_that_the_leader_alone_shows_is_taken_per_scheduler() -> None:
    """Rules take it over all schedulers, or each change of the lead would end a series, and an alert with it."""
    shown = {one.name for one in vars(metrics).values() if isinstance(one, metrics.Shown)}
    shown |= {str(gauge._name) for gauge in metrics.LEADERS}
    for rule in RULES:
        for name in promql.metrics(rule["expr"]) & (shown - {"vmrelay_scheduler_leads"}):
            assert f"max without (instance) ({name}" in rule["expr"], (name, rule["expr"])
