"""The dashboard and the alert rules, held against what the product exposes.

Prometheus' own `promtool` checks the rules where it is installed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dicom_node.codes import NOT_ASSESSED_REASONS
from dicom_node.watch import Rejection
from worker import VERSION, metrics, up
from worker.metrics import METRICS, Kind, Outcome, Stage
from worker.settings import Settings
from worker.states import Finding, JobKind, StudyState

ROOT = Path(__file__).resolve().parents[2]
RULES_FILE = ROOT / "deploy" / "prometheus" / "alerts.yaml"
STORIES = sorted(RULES_FILE.parent.glob("*.test.yaml"))
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES_FILE.read_text())["groups"] for rule in group["rules"]
]
DASHBOARD_FILE = ROOT / "deploy" / "grafana" / "cxr-worker.json"
DASHBOARD: dict[str, Any] = json.loads(DASHBOARD_FILE.read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
# Read now: the tests themselves run without our settings.
REQUIRED = bool(os.environ.get("CXR_REQUIRE_PROMTOOL"))

BY_NAME = {metric.name: metric for metric in METRICS}
EXPOSED = {
    metric.name + end: metric
    for metric in METRICS
    for end in (("_bucket", "_sum", "_count") if metric.kind is Kind.HISTOGRAM else ("",))
}
# What every relay tells of the one ledger: with several relays a sum would count it several times.
TOLD_BY_EACH_RELAY = {
    metrics.QUEUE_DEPTH, metrics.QUEUE_OLDEST, metrics.DEAD_LETTERS, metrics.STUDIES, metrics.AWAY,
    metrics.ARCHIVE_FREE, metrics.ARCHIVE_SIZE, metrics.ARCHIVE_RESERVE,
}  # fmt: skip
# Of the labels that are compared with a value: all the values that there are.
VALUES = {
    "role": {*up.roles(Settings.from_env({})), "worker"} - {"redis"},
    "status": {"0x0000"},
    "kind": set(JobKind),
    "reason": {*NOT_ASSESSED_REASONS, *Rejection},
    "finding": set(Finding),
    "outcome": set(Outcome),
    "state": set(StudyState),
    "stage": set(Stage),
}
ADDED = {"role", "process", "job", "instance"}


def expressions() -> Iterator[tuple[str, str]]:
    """Give every expression with where it stands."""
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


ALL = [pytest.param(expr, id=f"{at}-{name}") for at, (name, expr) in enumerate(expressions())]


def names_in(expr: str) -> list[str]:
    return re.findall(r"\bcxr_\w+", expr)


@pytest.mark.parametrize("expr", ALL)
def test_every_metric_that_is_asked_for_exists(expr: str) -> None:
    assert names_in(expr)
    assert [name for name in names_in(expr) if name not in EXPOSED] == []


@pytest.mark.parametrize("expr", ALL)
def test_what_each_of_several_relays_tells_is_not_summed(expr: str) -> None:
    summed = re.findall(r"\b(?:sum|count)\b(?: by \([^)]*\))?\s*\((cxr_\w+)", expr)
    assert not {EXPOSED[name] for name in summed} & TOLD_BY_EACH_RELAY


@pytest.mark.parametrize("expr", ALL)
def test_every_label_that_is_asked_for_is_one_of_its_metric(expr: str) -> None:
    known = {label for name in names_in(expr) for label in EXPOSED[name].labels} | ADDED
    if any(EXPOSED[name].kind is Kind.HISTOGRAM for name in names_in(expr)):
        known.add("le")
    for grouped in re.findall(r"\bby\s*\(([^)]*)\)", expr):
        assert {label.strip() for label in grouped.split(",")} <= known
    for name, matchers in re.findall(r"\b(cxr_\w+)\{([^}]*)\}", expr):
        for label, values in re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"', matchers):
            assert label in {*EXPOSED[name].labels, *ADDED}
            assert set(values.split("|")) <= VALUES[label]


@pytest.mark.parametrize("expr", ALL)
def test_only_counters_are_rated(expr: str) -> None:
    for name in re.findall(r"\b(?:rate|increase)\((cxr_\w+)", expr):
        assert EXPOSED[name].kind is not Kind.GAUGE
    for name in names_in(expr):
        if EXPOSED[name].kind is not Kind.GAUGE:
            assert re.search(rf"\b(?:rate|increase)\({name}", expr), name


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_and_what_has_happened(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"warning", "critical"}
    summary = rule["annotations"]["summary"]
    assert len(summary) > 20
    used = set(re.findall(r"\$labels\.(\w+)", summary))
    known = {label for name in names_in(rule["expr"]) for label in EXPOSED[name].labels} | ADDED
    assert used <= known


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {EXPOSED[name].name for panel in PANELS for t in panel["targets"]
             for name in names_in(t["expr"])}  # fmt: skip
    assert set(BY_NAME) - shown == set()


def test_the_dashboard_asks_the_prometheus_that_is_chosen() -> None:
    (chosen,) = DASHBOARD["templating"]["list"]
    assert (chosen["name"], chosen["type"]) == ("datasource", "datasource")
    used = {json.dumps(t["datasource"]) for panel in PANELS for t in panel["targets"]}
    assert used == {json.dumps({"type": "prometheus", "uid": "${datasource}"})}
    identifiers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(identifiers) == len(set(identifiers))


def test_panels_do_not_lie_on_one_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def promtool(*words: str) -> str:
    """Run Prometheus' own tool beside the rules; where CI has installed it, missing it fails."""
    if shutil.which("promtool") is None:
        if REQUIRED:
            pytest.fail("CXR_REQUIRE_PROMTOOL is set, and promtool is not on the PATH")
        pytest.skip("promtool is not installed")
    done = subprocess.run(
        ["promtool", *words], cwd=RULES_FILE.parent, capture_output=True, text=True, check=False,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_takes_the_rules() -> None:
    assert f"{len(RULES)} rules found" in promtool("check", "rules", RULES_FILE.name)


def test_promtool_takes_every_question_of_the_dashboard(tmp_path: Path) -> None:
    asked = [expr for name, expr in expressions() if name not in {r["alert"] for r in RULES}]
    rules = [{"record": f"cxr:{at}", "expr": expr} for at, expr in enumerate(asked)]
    file = tmp_path / "dashboard.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(asked)} rules found" in promtool("check", "rules", str(file))


def test_the_rules_say_what_they_should_in_their_own_stories() -> None:
    told = promtool("test", "rules", *(path.name for path in STORIES))
    assert told.count("SUCCESS") == len(STORIES) > 1


def test_every_alert_has_a_story_in_which_it_is_told() -> None:
    stories = [story for path in STORIES for story in yaml.safe_load(path.read_text())["tests"]]
    cases = [case for story in stories for case in story["alert_rule_test"]]
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == {
        rule["alert"] for rule in RULES
    }
    named = {name for story in stories for each in story["input_series"]
             for name in names_in(each["series"])}  # fmt: skip
    assert named <= set(EXPOSED)


def test_the_version_that_is_told_is_that_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION
