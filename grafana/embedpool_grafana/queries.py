"""PromQL over embedpool's metrics: each expression obeys the dashboard's variables.

A metric or label that the table of metrics does not have is an error here, not an empty panel.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from embedpool_shared.measures import MODEL, Combine, Kind, Measure, measure

POOL_LABELS: Final = ("cluster", "namespace")
"""What tells one pool from another; the scrape configuration sets them."""
RATE: Final = "$__rate_interval"
RANGE: Final = "$__range"
OBJECTIVE_WINDOW: Final = "30d"
_everywhere: Final = tuple(f'{label}=~"${label}"' for label in (*POOL_LABELS, "job"))


@dataclass(frozen=True, slots=True)
class Query:
    """One expression, and how its series are called in the legend."""

    expr: str
    legend: str = "__auto"

    @property
    def is_instant(self) -> bool:
        """Tell whether one value is enough: each point of a line would cover the same long time."""
        return f"[{RANGE}]" in self.expr or f"[{OBJECTIVE_WINDOW}]" in self.expr


def selector(name: str, *matchers: str, part: str = "") -> str:
    """Select the series of a metric, without its prefix, that the variables choose."""
    found = measure(name)
    unknown = {_label_of(matcher) for matcher in matchers} - {*found.label_names, "le"}
    if unknown:
        raise ValueError(f"{found.name} has no label {', '.join(sorted(unknown))}")
    chosen = [*_everywhere, *(['model=~"$model"'] if MODEL in found.labels else []), *matchers]
    return f"{found.name}{_suffix(found, part)}{{{', '.join(chosen)}}}"


def recorded(name: str) -> str:
    """Select what the recording rules keep for each job and model: a rate over five minutes."""
    chosen = ", ".join((*_everywhere, 'model=~"$model"'))
    return f"job_model:embedpool_{name}:rate5m{{{chosen}}}"


def rate(name: str, *matchers: str, by: str = "", part: str = "", over: str = RATE) -> str:
    """Say how much of a counter there is a second."""
    return f"sum{_by(by)} (rate({selector(name, *matchers, part=part)}[{over}]))"


def amount(name: str, *matchers: str, over: str = RANGE) -> str:
    """Say by how much a counter grew, in the dashboard's whole time range if not told otherwise."""
    return f"sum (increase({selector(name, *matchers)}[{over}]))"


def now(name: str, *matchers: str, by: str = "") -> str:
    """Add up a gauge: over targets, or once for each pool where every target shows all of it."""
    found = measure(name)
    if found.combine is not Combine.POOL:
        return f"sum{_by(by)} ({selector(name, *matchers)})"
    labels = ", ".join((*POOL_LABELS, *found.label_names))
    return f"sum{_by(by)} (max by ({labels}) ({selector(name, *matchers)}))"


def most(name: str, *matchers: str, by: str = "") -> str:
    """Find the largest value of a gauge."""
    return f"max{_by(by)} ({selector(name, *matchers)})"


def least(name: str, *matchers: str, by: str = "") -> str:
    """Find the smallest value of a gauge."""
    return f"min{_by(by)} ({selector(name, *matchers)})"


def quantile(part: float, name: str, *matchers: str, by: str = "", over: str = RATE) -> str:
    """Estimate a quantile of a histogram."""
    labels = f"{by}, le" if by else "le"
    buckets = rate(name, *matchers, by=labels, part="bucket", over=over)
    return f"histogram_quantile({part:g}, {buckets})"


def mean(name: str, *matchers: str, by: str = "") -> str:
    """Average a histogram's observations."""
    total = rate(name, *matchers, by=by, part="sum")
    return share(total, rate(name, *matchers, by=by, part="count"))


def share(part: str, whole: str) -> str:
    """Divide; no value where the whole is zero."""
    return f"{part} / ({whole} > 0)"


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""


def _label_of(matcher: str) -> str:
    return re.split("[!=]", matcher, maxsplit=1)[0]


def _suffix(found: Measure, part: str) -> str:
    if (found.kind is Kind.HISTOGRAM) != bool(part):
        raise ValueError(f"{found.name} is a {found.kind}: it has no part {part or 'of its own'}")
    return f"_{part}" if part else ""
