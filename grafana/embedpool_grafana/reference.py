"""docs/metrics.md, written from the table of metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from embedpool_shared.measures import (
    COUNT_EDGES,
    MEASURES,
    RATIO_EDGES,
    SECONDS_EDGES,
    Combine,
    Measure,
    Role,
)

_COMBINED: Final = {
    Combine.SUM: "sum",
    Combine.MAX: "largest",
    Combine.MIN: "smallest",
    Combine.POOL: "whole pool",
}
_TABLES: Final = (
    ("Of the api", "Port 9400.", Role.API),
    ("Of a worker", "Port 9401.", Role.WORKER),
    ("Of both", "Each role's target has its own.", Role.BOTH),
)
MARK: Final = "<!-- From here on written by `python -m embedpool_grafana`. -->"


def with_tables(page: str) -> str:
    """Keep the page up to its mark, and write a table for each role after it."""
    return "\n".join([page.partition(MARK)[0] + MARK, "", *_tables(), _edges(), ""])


def row(measure: Measure) -> str:
    """Write a metric's row."""
    cells = (f"`{measure.name}`", _type(measure), _labels(measure), measure.help)
    return f"| {' | '.join(cells)} |"


def _tables() -> Iterator[str]:
    for title, where, role in _TABLES:
        yield f"## {title}\n\n{where}\n\n| metric | type | labels | meaning |\n|---|---|---|---|"
        yield from (row(measure) for measure in MEASURES if measure.role is role)
        yield ""


def _type(measure: Measure) -> str:
    if measure.kind != "gauge":
        return str(measure.kind)
    return f"{measure.kind}, {_COMBINED[measure.combine]}"


def _labels(measure: Measure) -> str:
    return ", ".join(
        f"`{label.name}`" + (f" ({', '.join(label.values)})" if label.values else "")
        for label in measure.labels
    )


def _edges() -> str:
    kinds = (("seconds", SECONDS_EDGES), ("counts", COUNT_EDGES), ("ratios", RATIO_EDGES))
    lines = (f"- {name}: {', '.join(f'{edge:g}' for edge in edges)}" for name, edges in kinds)
    return "\n".join(("## Edges of the histograms", "", *lines))
