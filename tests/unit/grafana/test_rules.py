"""Recording rules and alerts: they parse, name what exists, fire when they should, and lead on."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any, Final

import pytest
import yaml

from embedpool_grafana.objectives import AVAILABILITY, IN_TIME, PAGING_BURN
from embedpool_shared.measures import LATENCY_OBJECTIVE_S, Combine
from support.tools import tool
from unit.grafana.promql import GRAFANA, ROOT, RULES, SERIES, alerts, problem, recorded, rules, used

PROMETHEUS: Final = GRAFANA / "prometheus"
TESTS: Final = PROMETHEUS / "tests"
POOL: Final = {"cluster", "namespace"}


def title(rule: dict[str, Any]) -> str:
    return str(rule.get("record") or f"{rule['alert']} {rule['labels']['severity']}")


def promtool(*arguments: str) -> str:
    program = tool("promtool", package="prometheus")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def headings() -> list[str]:
    page = (ROOT / "docs" / "runbooks.md").read_text("utf-8")
    return re.findall(r"^## (.+)$", page, re.MULTILINE)


def cases() -> list[tuple[str, bool]]:
    """Alert and whether it fires, of every case of promtool's tests."""
    return [
        (case["alertname"], bool(case["exp_alerts"]))
        for path in sorted(TESTS.glob("*.yml"))
        for test in yaml.safe_load(path.read_text("utf-8"))["tests"]
        for case in test["alert_rule_test"]
    ]


def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    assert "FAILED" not in promtool("check", "rules", *map(str, sorted(RULES.glob("*.yml"))))


def test_promtool_finds_nothing_wrong_with_the_scrape_configuration() -> None:
    promtool("check", "config", "--syntax-only", str(PROMETHEUS / "prometheus.yml"))


@pytest.mark.parametrize("path", sorted(TESTS.glob("*.yml")), ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_only_then(path: Any) -> None:
    promtool("test", "rules", str(path))


@pytest.mark.parametrize("name", sorted({rule["alert"] for rule in alerts()}))
def test_an_alert_is_seen_firing_and_seen_silent(name: str) -> None:
    assert {fires for alert, fires in cases() if alert == name} == {True, False}


def test_no_case_is_about_an_alert_that_is_gone() -> None:
    assert {alert for alert, _ in cases()} == {rule["alert"] for rule in alerts()}


@pytest.mark.parametrize("rule", rules(), ids=title)
def test_a_rule_names_only_what_exists(rule: dict[str, Any]) -> None:
    found = used(rule["expr"])

    assert [said for it in found.selectors if (said := problem(it))] == []
    known = {*POOL, "job", "model", "le"}
    known |= {n for it in found.selectors if it.name in SERIES for n in SERIES[it.name].label_names}
    assert found.grouped <= known


@pytest.mark.parametrize("rule", rules(), ids=title)
def test_a_rule_never_adds_up_what_every_target_shows(rule: dict[str, Any]) -> None:
    for selector in used(rule["expr"]).selectors:
        measure = SERIES.get(selector.name)
        if measure is not None and measure.combine is Combine.POOL:
            inmost = next(
                it for it in selector.around if not it.endswith("_over_time") and it != "deriv"
            )
            assert inmost == "max"


@pytest.mark.parametrize("rule", rules(), ids=title)
def test_a_rule_keeps_pools_apart(rule: dict[str, Any]) -> None:
    groupings = re.findall(r"\bby \(([^)]*)\)", rule["expr"])

    assert all(set(labels.split(", ")) >= POOL for labels in groupings)


def test_the_windows_are_those_that_the_burn_rates_compare() -> None:
    asked = {it.name for rule in alerts() for it in used(rule["expr"]).selectors}

    assert asked & recorded().keys() == {name for name in recorded() if name.startswith("pool:")}


@pytest.mark.parametrize("rule", alerts(), ids=title)
def test_an_alert_says_how_bad_it_is_what_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    notes = rule["annotations"]

    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set(notes) == {"summary", "description", "runbook_url"}
    assert notes["description"].endswith(".")
    assert notes["runbook_url"] == f"docs/runbooks.md#{rule['alert'].lower()}"


@pytest.mark.parametrize("rule", alerts(), ids=title)
def test_an_alert_speaks_only_of_labels_it_has(rule: dict[str, Any]) -> None:
    spoken = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
    groupings = re.findall(r"\bby \(([^)]*)\)", rule["expr"])
    kept = set(groupings[0].split(", ")) if groupings else {"job", "instance"}

    assert spoken <= kept | POOL | set(rule["labels"])


def test_every_alert_has_its_section_and_every_section_its_alert() -> None:
    assert sorted(headings()) == sorted({rule["alert"] for rule in alerts()})


@pytest.mark.parametrize("name", headings())
def test_a_section_says_what_it_means_how_to_look_and_what_to_do(name: str) -> None:
    page = (ROOT / "docs" / "runbooks.md").read_text("utf-8")
    section = page.split(f"## {name}\n", 1)[1].split("\n## ", 1)[0]

    assert re.findall(r"^\*\*(\w+)\*\*", section, re.MULTILINE) == ["Means", "Look", "Do"]


def test_a_runbook_speaks_only_of_panels_that_exist() -> None:
    page = (ROOT / "docs" / "runbooks.md").read_text("utf-8").split("\n## ", 1)[1]
    titles = {"Overview", "Keys and spend", "Bulk", "Status → Targets"}
    for path in (GRAFANA / "dashboards").glob("*.json"):
        titles |= {panel["title"] for panel in json.loads(path.read_text("utf-8"))["panels"]}

    assert set(re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", page)) <= titles


def test_rules_and_dashboards_mean_the_same_objectives() -> None:
    exprs = {title(rule): rule["expr"] for rule in rules()}
    pages = exprs["EmbedpoolAvailabilityBurn critical"]

    assert f'le="{LATENCY_OBJECTIVE_S}"' in exprs["job_model:embedpool_late:rate5m"]
    assert f"> {PAGING_BURN} * {1 - AVAILABILITY:.3g}" in pages
    assert f"> {PAGING_BURN} * {1 - IN_TIME:.3g}" in exprs["EmbedpoolLatencyBurn critical"]


def test_both_roles_are_scraped_at_their_ports() -> None:
    tree = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text("utf-8"))
    targets = {job["job_name"]: job["dns_sd_configs"][0] for job in tree["scrape_configs"]}

    assert {name: (at["names"], at["port"]) for name, at in targets.items()} == {
        "embedpool-api": (["api"], 9_400),
        "embedpool-worker": (["worker"], 9_401),
    }
