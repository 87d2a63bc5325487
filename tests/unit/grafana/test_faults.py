"""Each fault of a game day is named by exactly one alert, or one panel of the Overview."""

from __future__ import annotations

import pytest

from embedpool_grafana.faults import FAULTS, ByAlert, ByPanel, Fault
from embedpool_grafana.files import BOARDS
from embedpool_grafana.overview import OVERVIEW
from unit.grafana.promql import SERIES, alerts, used

LONGEST_S = 45
"""What is left of a minute after a scrape and an evaluation, 15 s apart."""


def test_eight_faults_have_names_of_their_own() -> None:
    assert len({fault.what for fault in FAULTS}) == 8
    assert len({str(fault.shown) for fault in FAULTS}) == 8


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_a_fault_is_named_within_a_minute(fault: Fault) -> None:
    match fault.shown:
        case ByAlert(alert):
            (rule,) = [rule for rule in alerts() if rule["alert"] == alert]
            assert int(rule.get("for", "0s").removesuffix("s")) <= LONGEST_S
        case ByPanel(title, labels, _):
            (panel,) = [
                built
                for row in OVERVIEW.rows
                for built in (panel.build() for panel in row.panels)
                if built.title == title
            ]
            (target,) = panel.targets or ()
            found = used(target.to_json()["expr"])
            values = {
                it.name: it.values for name in found.selectors for it in SERIES[name.name].labels
            }
            assert {name for name, _ in labels} <= found.grouped
            assert all(value in values[name] for name, value in labels)


def test_the_overview_is_the_first_board() -> None:
    assert BOARDS[0] is OVERVIEW
