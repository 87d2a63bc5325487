"""What all dashboards share: variables, links to each other, marks of deployments, stable ids."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from zlib import crc32

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from embedpool_grafana.panels import SOURCE, AnyPanel
from embedpool_grafana.queries import selector

TAG: Final = "embedpool"
EVERYTHING: Final = ".*"
"""What All stands for: it matches series without the label, too."""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading; they wrap at the grid's width."""

    title: str
    panels: Sequence[AnyPanel]


@dataclass(frozen=True, slots=True)
class Chooser:
    """A variable that offers the values of a label of a metric."""

    label: str
    title: str
    metric: str  # as a selector
    is_multi: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One dashboard."""

    uid: str
    title: str
    description: str
    rows: Sequence[Row]
    choosers: Sequence[Chooser] = ()  # beyond those that every board has


_IN_CLUSTER: Final = 'embedpool_build_info{cluster=~"$cluster"}'
_IN_NAMESPACE: Final = 'embedpool_build_info{cluster=~"$cluster", namespace=~"$namespace"}'
CHOOSERS: Final = (
    Chooser("cluster", "Cluster", "embedpool_build_info"),
    Chooser("namespace", "Namespace", _IN_CLUSTER),
    Chooser("job", "Job", _IN_NAMESPACE),
    Chooser(
        "model", "Model",
        'embedpool_request_seconds_count{'
        'cluster=~"$cluster", namespace=~"$namespace", job=~"$job"}',
    ),
)  # fmt: skip


def as_json(board: Board, boards: Sequence[Board]) -> str:
    """Write a dashboard as the JSON that Grafana provisions, with links to the other boards."""
    built = _built(board, boards)
    for panel in built.panels or ():
        # By the title, so that links to a panel outlive its neighbours.
        panel.id_val = crc32(f"{panel.title}".encode()) % 1_000_000 + 1
    tree = json.loads(JSONEncoder().encode(built))
    tree["annotations"] = {"list": [_deployments()]}
    return json.dumps(tree, indent=2, sort_keys=True) + "\n"


def _built(board: Board, boards: Sequence[Board]) -> models.Dashboard:
    builder = dashboard.Dashboard(board.title).uid(board.uid).description(board.description)
    builder.tags([TAG]).readonly().timezone("browser").refresh("30s").time("now-1h", "now")
    builder.tooltip(models.DashboardCursorSync.CROSSHAIR)
    source = dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
    builder.with_variable(source)
    for chooser in (*CHOOSERS, *board.choosers):
        builder.with_variable(_variable(chooser))
    for other in boards:
        if other is not board:
            builder.link(_link(other))
    for row in board.rows:
        builder.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            builder.with_panel(panel)
    return builder.build()


def _variable(chooser: Chooser) -> dashboard.QueryVariable:
    query = f"label_values({chooser.metric}, {chooser.label})"
    everything = models.VariableOption(selected=True, text=["All"], value=["$__all"])
    return (
        dashboard.QueryVariable(chooser.label)
        .label(chooser.title)
        .query({"query": query, "refId": f"choose-{chooser.label}"})
        .datasource(SOURCE)
        .multi(chooser.is_multi)
        .include_all(True)
        .all_value(EVERYTHING)
        .current(everything)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )


def _link(board: Board) -> dashboard.DashboardLink:
    link = dashboard.DashboardLink(board.title).type(models.DashboardLinkType.LINK)
    link.url(f"/d/{board.uid}").tooltip(board.description).icon("dashboard")
    return link.include_vars(True).keep_time(True)


def _deployments() -> dict[str, Any]:
    """Mark when a role began to run a version.

    A plain tree: the SDK's class lacks the fields that Grafana's Prometheus data source reads.
    """
    runs = f"count by (cluster, namespace, job, version) ({selector('build_info')})"
    return {
        "name": "Deployments",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "enable": True,
        "hide": False,
        "iconColor": "blue",
        "expr": f"{runs} unless {runs.replace('})', '} offset 2m)')}",
        "step": "1m",
        "titleFormat": "{{job}} runs {{version}}",
        "textFormat": "{{cluster}} {{namespace}}",
        "tagKeys": "job,version",
    }
