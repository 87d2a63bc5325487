"""Each fault of a game day is named by exactly one alert, or one panel of the Overview."""

from __future__ import annotations

import json
from typing import Any

import pytest

from embedpool_grafana.boards import as_json
from embedpool_grafana.faults import FAULTS, ByAlert, ByPanel, Fault
from embedpool_grafana.files import BOARDS
from embedpool_grafana.overview import OVERVIEW
from embedpool_grafana.panels import BAD, GOOD, WORSE
from unit.grafana.promql import alerts, used

LONGEST_S = 45
"""What is left of a minute after a scrape and an evaluation, 15 s apart."""


def test_eight_faults_have_names_of_their_own() -> None:
    assert len({fault.what for fault in FAULTS}) == 8
    assert len({str(fault.shown) for fault in FAULTS}) == 8


def panel_of(title: str) -> dict[str, Any]:
    """Find the Overview's only panel of that title."""
    tree = json.loads(as_json(OVERVIEW, BOARDS))
    (panel,) = [panel for panel in tree["panels"] if panel["title"] == title]
    found: dict[str, Any] = panel
    return found


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_a_fault_is_named_within_a_minute(fault: Fault) -> None:
    match fault.shown:
        case ByAlert(alert, labels):
            (rule,) = [rule for rule in alerts() if rule["alert"] == alert]
            assert int(rule.get("for", "0s").removesuffix("s")) <= LONGEST_S
            assert set(labels) <= used(rule["expr"]).grouped
        case ByPanel(title, labels):
            panel = panel_of(title)
            colours = [
                step["color"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
            ]
            assert colours[0] == GOOD
            assert set(colours[1:]) & {WORSE, BAD}
            assert all(set(labels) <= used(it["expr"]).grouped for it in panel["targets"])


def test_what_is_wrong_now_shows_what_an_alert_is_about() -> None:
    (_, named) = panel_of("What is wrong now")["transformations"][1:]
    about = {name for fault in FAULTS for name in fault.shown.labels}

    assert about <= named["options"]["renameByName"].keys()


def test_the_overview_is_the_first_board() -> None:
    assert BOARDS[0] is OVERVIEW
