"""Each fault of a game day is named by exactly one alert, or one panel of the Overview."""

from __future__ import annotations

import json

import pytest

from embedpool_grafana.boards import as_json
from embedpool_grafana.faults import FAULTS, ByAlert, ByPanel, Fault
from embedpool_grafana.files import BOARDS
from embedpool_grafana.overview import OVERVIEW
from unit.grafana.promql import SERIES, alerts, used

LONGEST_S = 45
"""What is left of a minute after a scrape and an evaluation, 15 s apart."""


def test_eight_faults_have_names_of_their_own() -> None:
    assert len({fault.what for fault in FAULTS}) == 8
    assert len({str(fault.shown) for fault in FAULTS}) == 8


def expr_of(title: str) -> str:
    """Find the first query of the Overview's only panel of that title."""
    tree = json.loads(as_json(OVERVIEW, BOARDS))
    (panel,) = [panel for panel in tree["panels"] if panel["title"] == title]
    return str(panel["targets"][0]["expr"])


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_a_fault_is_named_within_a_minute(fault: Fault) -> None:
    match fault.shown:
        case ByAlert(alert):
            (rule,) = [rule for rule in alerts() if rule["alert"] == alert]
            assert int(rule.get("for", "0s").removesuffix("s")) <= LONGEST_S
        case ByPanel(title, labels, _):
            found = used(expr_of(title))
            known = [label for it in found.selectors for label in SERIES[it.name].labels]
            values = {label.name: label.values for label in known}
            assert {name for name, _ in labels} <= found.grouped
            assert all(value in values[name] for name, value in labels)


def test_the_overview_is_the_first_board() -> None:
    assert BOARDS[0] is OVERVIEW
