"""The few kinds of panels that the dashboards are made of.

Colours are Grafana's own names, which suit the light and the dark theme.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeVar

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from embedpool_grafana.queries import Query

SOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
GOOD: Final = "green"
WORSE: Final = "orange"
BAD: Final = "red"
WIDTH: Final = 24

AnyPanel = timeseries.Panel | stat.Panel | statetimeline.Panel | table.Panel | heatmap.Panel
P = TypeVar("P", timeseries.Panel, stat.Panel, statetimeline.Panel, table.Panel, heatmap.Panel)


@dataclass(frozen=True, slots=True)
class Text:
    """What every panel says of itself: a title, what it shows and what to think of it, a unit."""

    title: str
    description: str
    unit: str
    span: int = 8
    height: int = 8


Steps = Sequence[tuple[float | None, str]]
"""From which value on which colour; the first from None on."""


@dataclass(frozen=True, slots=True)
class States:
    """What values mean: names with colours, and the same colours by value."""

    words: Mapping[str, tuple[str, str]]
    steps: Steps


def lines(
    text: Text, *queries: Query, stacked: bool = False, limit: float | None = None
) -> timeseries.Panel:
    """Draw series over time, with a dashed line at `limit`."""
    panel = _described(timeseries.Panel(), text, queries)
    panel.min(0).fill_opacity(25 if stacked else 8).line_width(1)
    panel.show_points(common_models.VisibilityMode.NEVER)
    panel.legend(
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(common_models.LegendDisplayMode.TABLE)
        .placement(common_models.LegendPlacement.BOTTOM)
        .calcs(["lastNotNull", "max"])
    )
    panel.tooltip(common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI))
    if stacked:
        panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL))
    if limit is not None:
        panel.thresholds(_steps([(None, GOOD), (limit, BAD)]))
        panel.thresholds_style(
            common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.DASHED)
        )
    return panel


def figure(
    text: Text,
    *queries: Query,
    steps: Steps = ((None, GOOD),),
    words: Mapping[str, str] | None = None,
) -> stat.Panel:
    """Show the last value large, coloured by `steps`; `words` replace values."""
    panel = _described(stat.Panel(), text, queries).thresholds(_steps(steps))
    panel.color_mode(
        common_models.BigValueColorMode.BACKGROUND_SOLID
        if len(steps) > 1
        else common_models.BigValueColorMode.NONE
    )
    panel.graph_mode(common_models.BigValueGraphMode.AREA)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    return panel.mappings([_words(words)]) if words else panel


def timeline(
    text: Text, *queries: Query, words: Mapping[str, tuple[str, str]]
) -> statetimeline.Panel:
    """Show how states followed each other; `words` name and colour the values."""
    panel = _described(statetimeline.Panel(), text, queries).mappings([_coloured(words)])
    panel.show_value(common_models.VisibilityMode.NEVER).row_height(0.8).merge_values(True)
    return panel


def heat(text: Text, query: Query) -> heatmap.Panel:
    """Draw a histogram over time."""
    panel = _described(heatmap.Panel(), text, ())
    panel.with_target(_target(query, 0).format(PromQueryFormat.HEATMAP))
    panel.exemplars_color("blue")  # the SDK's own is no theme's
    panel.calculate(False).y_axis(heatmap.YAxisConfig().unit(text.unit))
    panel.color(
        heatmap.HeatmapColorOptions()
        .mode(heatmap_models.HeatmapColorMode.SCHEME)
        .scheme("Oranges")
        .steps(64)
    )
    return panel


def rows(
    text: Text,
    *queries: Query,
    renamed: Mapping[str, str],
    units: Mapping[str, str] = MappingProxyType({}),
    states: States | None = None,
) -> table.Panel:
    """Tabulate the present values of several queries with the same labels, one row per label set.

    `renamed` maps labels, `Value` of one query or `Value #A`, `Value #B` … of several to headings;
    other columns are left out. `units` are those of headings that differ from the panel's, `states`
    name and colour those of the only query.
    """
    panel = _described(table.Panel(), text, ())
    for number, query in enumerate(queries):
        panel.with_target(_target(query, number).format(PromQueryFormat.TABLE).instant())
    panel.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    kept = {"include": {"names": list(renamed)}}
    panel.with_transformation(
        models.DataTransformerConfig(id_val="filterFieldsByName", options=kept)
    )
    order = {name: place for place, name in enumerate(renamed)}
    named = {"renameByName": dict(renamed), "indexByName": order}
    panel.with_transformation(models.DataTransformerConfig(id_val="organize", options=named))
    for heading, unit in units.items():
        panel.override_by_name(heading, [models.DynamicConfigValue(id_val="unit", value=unit)])
    if states is not None:
        panel.thresholds(_steps(states.steps)).mappings([_coloured(states.words)])
        filled = models.DynamicConfigValue(
            id_val="custom.cellOptions", value={"type": "color-background"}
        )
        panel.override_by_name(renamed["Value"], [filled])
    return panel


def _described(panel: P, text: Text, queries: Sequence[Query]) -> P:
    panel.title(text.title).description(text.description).unit(text.unit)
    panel.datasource(SOURCE).span(text.span).height(text.height)
    for number, query in enumerate(queries):
        panel.with_target(_target(query, number))
    return panel


def _target(query: Query, number: int) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend)
    target.ref_id(chr(ord("A") + number)).datasource(SOURCE)
    return target.instant() if query.is_instant else target.range()


def _steps(steps: Steps) -> dashboard.ThresholdsConfig:
    found = [models.Threshold(value=value, color=colour) for value, colour in steps]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(found)


def _coloured(words: Mapping[str, tuple[str, str]]) -> models.ValueMap:
    results = {
        value: models.ValueMappingResult(text=name, color=colour, index=index)
        for index, (value, (name, colour)) in enumerate(words.items())
    }
    return models.ValueMap(options=results)


def _words(words: Mapping[str, str]) -> models.ValueMap:
    return models.ValueMap(
        options={value: models.ValueMappingResult(text=text) for value, text in words.items()}
    )
