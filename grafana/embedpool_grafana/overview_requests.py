"""The Overview's rows about requests: how many, how fast, how they fail."""

from __future__ import annotations

from typing import Final

from embedpool_grafana.boards import Row
from embedpool_grafana.overview_health import INTERACTIVE
from embedpool_grafana.panels import Text, heat, lines
from embedpool_grafana.queries import RATE, Query, amount, now, quantile, rate
from embedpool_shared.measures import LATENCY_OBJECTIVE_S

OF_EMBEDDINGS: Final = 'route="embeddings"'

TRAFFIC: Final = Row(
    "Traffic",
    (
        lines(
            Text(
                "Requests by status",
                "Embeddings requests answered. A 5xx counts against the objective, a 4xx is the "
                "caller's.",
                "reqps",
                span=6,
            ),
            Query(rate("requests_total", OF_EMBEDDINGS, by="status"), "{{status}}"),
            stacked=True,
        ),
        lines(
            Text("Inputs by model", "Inputs of accepted embeddings requests.", "ops", span=6),
            Query(rate("inputs_total", by="model"), "{{model}}"),
            stacked=True,
        ),
        lines(
            Text("Requests in flight", "Embeddings requests being answered.", "short", span=6),
            Query(now("requests_in_flight"), "in flight"),
        ),
        lines(
            Text(
                "Slow requests and lost callers",
                "Requests slower than metrics.slow_request_s, whose ids are in the log, and "
                "callers that hung up before their answer.",
                "reqps",
                span=6,
            ),
            Query(rate("slow_requests_total"), "slow"),
            Query(rate("client_disconnects_total"), "hung up"),
        ),
    ),
)

LATENCY: Final = Row(
    "Latency",
    (
        lines(
            Text(
                "Latency by class",
                "Arrival to last byte. The dashed line is the objective for the p99 of interactive "
                "requests.",
                "s",
            ),
            Query(quantile(0.5, "request_seconds", by="class"), "p50 {{class}}"),
            Query(quantile(0.99, "request_seconds", by="class"), "p99 {{class}}"),
            limit=LATENCY_OBJECTIVE_S,
        ),
        lines(
            Text(
                "Where the time goes",
                "p99 of the parts of an interactive request: waiting in the queue until its call "
                "begins, the part of that inside a worker, waiting for its batch, and the "
                "provider's call.",
                "s",
            ),
            Query(quantile(0.99, "queue_seconds", INTERACTIVE), "queue"),
            Query(quantile(0.99, "batch_wait_seconds", INTERACTIVE), "of that batch wait"),
            Query(quantile(0.99, "provider_seconds"), "provider"),
        ),
        heat(
            Text(
                "Latency of all requests",
                "How many requests took how long. Two bands are two kinds of requests.",
                "s",
            ),
            Query(rate("request_seconds", by="le", part="bucket"), "{{le}}"),
        ),
    ),
)

ERRORS: Final = Row(
    "Errors",
    (
        lines(
            Text(
                "Failed requests by status",
                "500 our bug, 502 the provider, 503 overloaded, no keys, no worker or no Redis, "
                "504 the deadline.",
                "reqps",
            ),
            Query(
                rate("requests_total", OF_EMBEDDINGS, 'status=~"5.."', by="status")
                + ' or label_replace(vector(0), "status", "none", "", "")',
                "{{status}}",
            ),
            stacked=True,
        ),
        lines(
            Text(
                "Refusals by reason",
                "Requests refused before the queue. A flood for one reason is a caller out of "
                "control, or a limit too low.",
                "reqps",
            ),
            Query(rate("refusals_total", by="reason"), "{{reason}}"),
            stacked=True,
        ),
        lines(
            Text(
                "Failed provider calls by outcome",
                "Callers see few of them: throttled, quota and rejected go on with another key; "
                "unavailable, timeout and wrong are tried again; refused and cap are split.",
                "ops",
            ),
            Query(rate("calls_total", 'outcome!="ok"', by="outcome"), "{{outcome}}"),
            stacked=True,
        ),
        lines(
            Text(
                "Second chances",
                "Further tries, those of them with another key, those the retry budget forbade, "
                "and calls cut into parts.",
                "ops",
                span=12,
            ),
            Query(rate("retries_total"), "retries"),
            Query(rate("failovers_total"), "of them with another key"),
            Query(rate("retries_refused_total"), "forbidden"),
            Query(rate("splits_total"), "splits"),
        ),
        lines(
            Text(
                "Deliveries gone wrong",
                "Packs taken over from a worker, packs delivered again and requests given up, in "
                "each step.",
                "short",
                span=12,
            ),
            Query(amount("leases_lost_total", over=RATE), "leases lost"),
            Query(amount("redeliveries_total", over=RATE), "delivered again"),
            Query(amount("dead_letters_total", over=RATE), "dead letters"),
        ),
    ),
)
