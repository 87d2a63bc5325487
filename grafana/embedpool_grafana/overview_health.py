"""The Overview's first row: the objectives, and what is wrong now."""

from __future__ import annotations

from typing import Final

from embedpool_grafana.boards import Row
from embedpool_grafana.objectives import (
    AVAILABILITY,
    IN_TIME,
    PAGING_BURN,
    burn,
    kept,
)
from embedpool_grafana.panels import BAD, GOOD, WORSE, Text, figure, lines, rows
from embedpool_grafana.queries import OBJECTIVE_WINDOW, Query, least, now, quantile
from embedpool_shared.measures import LATENCY_OBJECTIVE_S

INTERACTIVE: Final = 'class="interactive"'
FIRING: Final = (
    'ALERTS{alertname=~"Embedpool.*", alertstate="firing", '
    'cluster=~"$cluster", namespace=~"$namespace"}'
)
"""An alert is about a pool: it has no job."""

_availability = figure(
    Text(
        "Availability",
        "Share of the embeddings requests of the chosen time that did not end with a 5xx. "
        f"The objective is {AVAILABILITY:.1%} over {OBJECTIVE_WINDOW}.",
        "percentunit",
        span=4,
        height=5,
    ),
    Query(kept("failures", "requests", over="$__range")),
    steps=((None, BAD), (0.99, WORSE), (AVAILABILITY, GOOD)),
)
_budget = burn("failures", "requests", over=OBJECTIVE_WINDOW, objective=AVAILABILITY)
_budget_left = figure(
    Text(
        "Error budget left",
        f"Of the 5xx that {OBJECTIVE_WINDOW} may have: 100 % is all of it, below 0 the objective "
        "is missed.",
        "percentunit",
        span=4,
        height=5,
    ),
    Query(f"1 - {_budget}"),
    steps=((None, BAD), (0.0, WORSE), (0.25, GOOD)),
)
_in_time = figure(
    Text(
        "Answered in time",
        "Share of the interactive requests of the chosen time that were answered within "
        f"{LATENCY_OBJECTIVE_S} s. The objective is {IN_TIME:.0%} over {OBJECTIVE_WINDOW}.",
        "percentunit",
        span=4,
        height=5,
    ),
    Query(kept("late", "timed", over="$__range")),
    steps=((None, BAD), (0.95, WORSE), (IN_TIME, GOOD)),
)
_p99 = figure(
    Text(
        "Latency p99",
        "99 of 100 interactive requests are answered within this, arrival to last byte. It is red "
        f"above the objective of {LATENCY_OBJECTIVE_S} s.",
        "s",
        span=4,
        height=5,
    ),
    Query(quantile(0.99, "request_seconds", INTERACTIVE)),
    steps=((None, GOOD), (LATENCY_OBJECTIVE_S / 2, WORSE), (LATENCY_OBJECTIVE_S, BAD)),
)
_workers = figure(
    Text(
        "Workers alive",
        "Worker processes that Redis hears of. Without any, new requests get a 503 after 5 s.",
        "short",
        span=3,
        height=5,
    ),
    Query(now("workers_alive")),
    steps=((None, BAD), (1, GOOD)),
)
_redis = figure(
    Text(
        "Redis",
        "Whether every process gets answers from Redis. While it is away new requests get a 503.",
        "short",
        span=2,
        height=5,
    ),
    Query(least("redis_up")),
    steps=((None, BAD), (1, GOOD)),
    words={"0": "away", "1": "up"},
)
_firing = figure(
    Text(
        "Alerts firing",
        "How many of embedpool's alerts fire; the table below names them.",
        "short",
        span=3,
        height=5,
    ),
    Query(f"count({FIRING}) or vector(0)"),
    steps=((None, GOOD), (1, BAD)),
)
_burning = lines(
    Text(
        "Error budget burn rate",
        "How many times faster than allowed the budgets burn: 1 uses one up in "
        f"{OBJECTIVE_WINDOW}, {PAGING_BURN} in two days. An hour and five minutes above "
        f"{PAGING_BURN} page somebody.",
        "none",
        span=12,
    ),
    *(
        Query(burn(part, whole, over=over, objective=objective), f"{name}, {over}")
        for name, part, whole, objective in (
            ("availability", "failures", "requests", AVAILABILITY),
            ("latency", "late", "timed", IN_TIME),
        )
        for over in ("5m", "1h")
    ),
    limit=PAGING_BURN,
)
_wrong = rows(
    Text(
        "What is wrong now",
        "The alerts that fire; docs/runbooks.md has a section for each. Empty is good.",
        "none",
        span=12,
    ),
    Query(FIRING),
    renamed={
        "alertname": "Alert",
        "severity": "Severity",
        "model": "Model",
        "provider": "Provider",
        "key": "Key",
        "role": "Role",
        "reason": "Reason",
    },
)

HEALTH: Final = Row(
    "Is it healthy?",
    (
        _availability, _budget_left, _in_time, _p99, _workers, _redis, _firing,
        _burning, _wrong,
    ),
)  # fmt: skip
