"""The committed dashboards are current, whole, and ask only for what exists."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from typing_extensions import override

from embedpool_grafana.files import BOARDS, texts
from embedpool_shared.measures import MEASURES, MODEL, Combine
from unit.grafana.promql import GRAFANA, PROMETHEUS_OWN, SERIES, Selector, problem, used

TREES: Final[dict[str, dict[str, Any]]] = {
    board.uid: json.loads((GRAFANA / "dashboards" / f"{board.uid}.json").read_text("utf-8"))
    for board in BOARDS
}
UNITS: Final = {
    "bytes", "currencyUSD", "none", "ops", "percentunit", "reqps", "s", "short",
}  # fmt: skip
OF_EVERY_BOARD: Final = ("datasource", "cluster", "namespace", "job", "model")
WIDTH: Final = 24


@dataclass(frozen=True)
class Asked:
    """One query of one panel."""

    board: str
    panel: str
    expr: str

    @override
    def __str__(self) -> str:
        return f"{self.board}: {self.panel}: {self.expr[:60]}"


def panels(uid: str) -> list[dict[str, Any]]:
    return [panel for panel in TREES[uid]["panels"] if panel["type"] != "row"]


def asked() -> list[Asked]:
    of_panels = [
        Asked(uid, panel["title"], target["expr"])
        for uid in TREES
        for panel in panels(uid)
        for target in panel["targets"]
    ]
    marks = [(uid, mark) for uid, tree in TREES.items() for mark in tree["annotations"]["list"]]
    return of_panels + [Asked(uid, mark["name"], mark["expr"]) for uid, mark in marks]


def selectors() -> list[tuple[Asked, Selector]]:
    return [(query, it) for query in asked() for it in used(query.expr).selectors]


def every_panel() -> list[Any]:
    return [
        pytest.param(panel, id=f"{uid}: {panel['title']}") for uid in TREES for panel in panels(uid)
    ]


@pytest.mark.parametrize(("path", "text"), list(texts().items()), ids=lambda it: str(it)[-40:])
def test_a_generated_file_is_current(path: Path, text: str) -> None:
    assert path.read_text("utf-8") == text, "run `make dashboards`"


def test_no_dashboard_is_left_of_a_board_that_is_gone() -> None:
    assert {path.stem for path in (GRAFANA / "dashboards").iterdir()} == set(TREES)


def test_the_uids_are_those_that_people_have_bookmarked() -> None:
    assert list(TREES) == ["embedpool-overview", "embedpool-keys-and-spend", "embedpool-bulk"]
    assert all(tree["uid"] == uid for uid, tree in TREES.items())


@pytest.mark.parametrize("uid", TREES)
def test_panels_have_titles_and_ids_of_their_own(uid: str) -> None:
    everything = TREES[uid]["panels"]

    assert len({panel["id"] for panel in everything}) == len(everything)
    assert len({panel["title"] for panel in everything}) == len(everything)


@pytest.mark.parametrize("uid", TREES)
def test_panels_fill_the_grid_without_overlapping(uid: str) -> None:
    cells: set[tuple[int, int]] = set()
    for panel in TREES[uid]["panels"]:
        at = panel["gridPos"]
        own = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }

        assert at["x"] + at["w"] <= WIDTH, panel["title"]
        assert not cells & own, panel["title"]
        cells |= own

    assert len(cells) == WIDTH * (max(y for _, y in cells) + 1)


@pytest.mark.parametrize("panel", every_panel())
def test_a_panel_has_a_unit_and_says_in_a_sentence_what_it_shows(panel: dict[str, Any]) -> None:
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["description"].endswith(".")
    assert len(panel["description"]) > 25


@pytest.mark.parametrize("panel", every_panel())
def test_a_unit_fits_what_is_asked_for(panel: dict[str, Any]) -> None:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    for target in panel["targets"]:
        names = {it.name for it in used(target["expr"]).selectors}
        is_time = any(name.endswith(("_seconds", "_seconds_bucket")) for name in names)
        is_share = any("_ratio" in name for name in names)
        if is_time and panel["type"] != "table":
            assert unit == "s"
        if is_share and panel["type"] != "table":
            assert unit == "percentunit"
        if any(name.endswith("_usd_total") for name in names):
            assert unit == "currencyUSD"
        if any(name.endswith("queue_bytes") for name in names):
            assert unit == "bytes"


@pytest.mark.parametrize("query", asked(), ids=str)
def test_a_query_parses_and_names_only_what_exists(query: Asked) -> None:
    found = used(query.expr)

    assert [said for it in found.selectors if (said := problem(it))] == []
    known = {"cluster", "namespace", "job", "le"}
    known |= {
        name for it in found.selectors if it.name in SERIES for name in SERIES[it.name].label_names
    }
    assert found.grouped <= known


def variables_for(selector: Selector) -> set[str]:
    """Say which variables a selector must obey."""
    if selector.name in PROMETHEUS_OWN:
        return {"cluster", "namespace"}
    measure = SERIES.get(selector.name)
    has_model = measure is None or MODEL in measure.labels  # what is recorded has it
    return {"cluster", "namespace", "job", *(["model"] if has_model else [])}


def test_every_query_obeys_the_variables() -> None:
    def chosen(selector: Selector) -> set[str]:
        matchers = selector.matchers.items()
        return {name for name, (_, value) in matchers if value == f"${name}"}

    assert [str(query) for query, it in selectors() if not variables_for(it) <= chosen(it)] == []


def test_what_every_target_shows_is_never_added_up_over_targets() -> None:
    added_up = [
        str(query)
        for query, it in selectors()
        if it.name in SERIES
        and SERIES[it.name].combine is Combine.POOL
        and it.around[0] not in {"max", "min"}
    ]

    assert added_up == []


def test_a_counter_is_only_ever_looked_at_by_its_growth() -> None:
    counters = ("_total", "_bucket", "_sum", "_count")
    grows = {"rate", "increase"}

    assert [
        str(query)
        for query, it in selectors()
        if it.name.endswith(counters) and it.around[0] not in grows
    ] == []


def test_a_quantile_is_made_of_buckets_that_keep_their_edges() -> None:
    quantiles = [(query, it) for query, it in selectors() if "histogram_quantile" in it.around]

    assert quantiles
    assert all(it.name.endswith("_bucket") for _, it in quantiles)
    assert all(re.search(r"by \((\w+, )*le\)", query.expr) for query, _ in quantiles)


def test_every_metric_is_shown_somewhere() -> None:
    names = {it.name for _, it in selectors()}

    assert [measure.name for measure in MEASURES if not names & set(measure.series)] == []


@pytest.mark.parametrize("uid", TREES)
def test_a_board_can_be_narrowed_down(uid: str) -> None:
    variables = {it["name"]: it for it in TREES[uid]["templating"]["list"]}

    assert tuple(variables)[:5] == OF_EVERY_BOARD
    for name, variable in variables.items():
        if name != "datasource":
            assert variable["multi"]
            assert variable["includeAll"]
            assert variable["allValue"] == ".*"  # also what lacks the label
            assert variable["label"]


@pytest.mark.parametrize("uid", TREES)
def test_a_variable_offers_values_of_a_label_that_exists(uid: str) -> None:
    for variable in TREES[uid]["templating"]["list"][1:]:
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])

        assert found
        (selector,) = used(found[1]).selectors
        assert problem(selector) == ""
        assert found[2] in {"cluster", "namespace", "job", *SERIES[selector.name].label_names}


@pytest.mark.parametrize("uid", TREES)
def test_every_data_source_is_the_chosen_one(uid: str) -> None:
    text = json.dumps(TREES[uid])

    uids = re.findall(r'"datasource": \{"type": "(\w+)", "uid": "([^"]+)"\}', text)

    assert set(uids) == {("prometheus", "${datasource}")}
    assert text.count('"datasource":') == len(uids)


@pytest.mark.parametrize("uid", TREES)
def test_colours_are_names_that_suit_light_and_dark(uid: str) -> None:
    colours = set(
        re.findall(r'"(?:color|iconColor|fixedColor)": "([^"]*)"', json.dumps(TREES[uid]))
    )

    assert colours <= {"green", "orange", "red", "blue"}
    assert "style" not in TREES[uid]


@pytest.mark.parametrize("uid", TREES)
def test_a_board_links_to_all_others_and_takes_the_choice_along(uid: str) -> None:
    links = TREES[uid]["links"]

    assert {link["url"] for link in links} == {f"/d/{other}" for other in TREES if other != uid}
    assert all(link["includeVars"] and link["keepTime"] for link in links)


@pytest.mark.parametrize("uid", TREES)
def test_a_deployment_is_marked(uid: str) -> None:
    (marks,) = TREES[uid]["annotations"]["list"]

    assert {it.name for it in used(marks["expr"]).selectors} == {"embedpool_build_info"}
    assert " unless " in marks["expr"]
    assert marks["enable"]


@pytest.mark.parametrize("uid", TREES)
def test_nobody_edits_a_provisioned_board(uid: str) -> None:
    assert TREES[uid]["editable"] is False
    assert "id" not in TREES[uid]


OF_THE_DATA_SOURCE = {"titleFormat", "textFormat", "step", "tagKeys"}
"""What Prometheus' annotations say beside what Grafana's schema knows of every annotation."""


def lost(written: Any, read: Any, place: str = "") -> Iterator[str]:
    """What of a board is not there any more, or is something else, once the schema has read it."""
    if isinstance(written, dict) and isinstance(read, dict):
        for name, value in written.items():
            yield from lost(value, read.get(name), f"{place}/{name}")
    elif isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        for at, (ours, theirs) in enumerate(zip(written, read, strict=True)):
            yield from lost(ours, theirs, f"{place}/{at}")
    elif written != read:
        yield place


@pytest.mark.parametrize("uid", TREES)
def test_a_board_passes_grafanas_schema(uid: str) -> None:
    register_default_plugins()
    read = Dashboard.from_json(copy.deepcopy(TREES[uid]))
    again = json.loads(JSONEncoder().encode(read))

    strange = set(lost(TREES[uid], again))

    allowed = {f"/annotations/list/0/{name}" for name in OF_THE_DATA_SOURCE}
    assert strange <= allowed


def test_the_schema_misses_what_it_does_not_know() -> None:
    register_default_plugins()
    board = copy.deepcopy(next(iter(TREES.values()))) | {"titel": "misspelt"}
    again = json.loads(JSONEncoder().encode(Dashboard.from_json(board)))

    assert "/titel" in set(lost(board, again))
