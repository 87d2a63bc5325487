"""docs/metrics.md holds every metric, as it is, and no other."""

from __future__ import annotations

import re

import pytest

from embedpool_grafana.reference import MARK, row, with_tables
from embedpool_shared.measures import (
    MAX_TEAMS,
    MEASURES,
    NO_TEAM,
    OTHER_TEAM,
    UNKNOWN_MODEL,
    Measure,
)
from unit.grafana.promql import ROOT, words

PAGE = (ROOT / "docs" / "metrics.md").read_text("utf-8")


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.name)
def test_the_page_has_the_row_of_every_metric(measure: Measure) -> None:
    assert row(measure) in PAGE.splitlines()


def test_the_page_names_no_metric_that_is_gone() -> None:
    assert set(re.findall(r"`(embedpool_\w+)`", PAGE)) == {measure.name for measure in MEASURES}


def test_writing_the_page_again_changes_nothing_and_keeps_its_words() -> None:
    words_before = PAGE.split(MARK)[0]

    assert with_tables(PAGE) == PAGE
    assert with_tables(words_before + MARK + "\nstale") == PAGE


def test_the_words_agree_with_the_table() -> None:
    said = PAGE.split(MARK)[0]

    assert f"first {MAX_TEAMS} teams" in said
    assert all(f"`{value}`" in said for value in (UNKNOWN_MODEL, OTHER_TEAM, NO_TEAM))


@pytest.mark.parametrize("page", ["docs/runbooks.md", "grafana/README.md", "docs/operations.md"])
def test_no_page_speaks_of_a_metric_that_does_not_exist(page: str) -> None:
    known = {name for measure in MEASURES for name in (measure.name, *measure.series)}

    assert (
        words((ROOT / page).read_text("utf-8")) - {"embedpool_grafana", "embedpool_worker"} <= known
    )
