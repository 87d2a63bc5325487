"""Bulk: the work nobody waits for by the second, its jobs, throughput and batches."""

from __future__ import annotations

from typing import Final

from embedpool_grafana.boards import Board, Row
from embedpool_grafana.panels import BAD, GOOD, Text, figure, lines
from embedpool_grafana.queries import Query, amount, mean, most, now, quantile, rate

_BULK: Final = 'class="bulk"'

_JOBS: Final = Row(
    "Jobs",
    (
        figure(
            Text("Jobs under way", "Bulk jobs that are not over.", "short", span=4, height=6),
            Query(
                now("bulk_jobs", 'state=~"validating|in_progress|finalizing|cancelling"'),
            ),
        ),
        figure(
            Text("Rows", "Rows answered in the chosen time.", "short", span=4, height=6),
            Query(amount("bulk_rows_total", 'outcome="answered"')),
        ),
        figure(
            Text(
                "Rows failed",
                "Rows of the chosen time that ended in a job's error file.",
                "short",
                span=4,
                height=6,
            ),
            Query(amount("bulk_rows_total", 'outcome!="answered"')),
            steps=((None, GOOD), (1, BAD)),
        ),
        lines(
            Text(
                "Jobs by state",
                "Bulk jobs that are not over, and those that ended in the last 24 hours.",
                "short",
                span=12,
                height=6,
            ),
            Query(now("bulk_jobs", by="state"), "{{state}}"),
            stacked=True,
        ),
    ),
)

_THROUGHPUT: Final = Row(
    "Throughput",
    (
        lines(
            Text(
                "Rows by outcome",
                "Rows of bulk jobs that are done with, each second.",
                "ops",
            ),
            Query(rate("bulk_rows_total", by="outcome"), "{{outcome}}"),
            stacked=True,
        ),
        lines(
            Text(
                "Bulk inputs over HTTP",
                "Inputs of requests that asked for the bulk class; those of bulk jobs never cross "
                "the api.",
                "ops",
            ),
            Query(rate("inputs_total", _BULK, by="model"), "{{model}}"),
            stacked=True,
        ),
        lines(
            Text(
                "Tokens paid",
                "Tokens a second that providers reported, of both classes.",
                "short",
            ),
            Query(rate("provider_tokens_total", by="model"), "{{model}}"),
            stacked=True,
        ),
    ),
)

_WAITING: Final = Row(
    "Waiting",
    (
        lines(
            Text("Oldest bulk pack", "Age of the oldest pack not yet answered.", "s", span=6),
            Query(most("queue_oldest_seconds", _BULK, by="model"), "{{model}}"),
        ),
        lines(
            Text(
                "Bulk items in workers",
                "Items that workers hold and have not sent. Much of it and few calls: permits are "
                "what it waits for.",
                "short",
                span=6,
            ),
            Query(now("worker_waiting_items", _BULK, by="model"), "{{model}}"),
            stacked=True,
        ),
        lines(
            Text(
                "Time in the queue",
                "From a bulk request's arrival in the queue to the beginning of its provider call.",
                "s",
                span=6,
            ),
            Query(quantile(0.5, "queue_seconds", _BULK), "p50"),
            Query(quantile(0.99, "queue_seconds", _BULK), "p99"),
        ),
        lines(
            Text(
                "Time in a worker",
                "From a worker's lease of a bulk request to the beginning of its provider call.",
                "s",
                span=6,
            ),
            Query(quantile(0.5, "batch_wait_seconds", _BULK), "p50"),
            Query(quantile(0.99, "batch_wait_seconds", _BULK), "p99"),
        ),
    ),
)

_BATCHES: Final = Row(
    "Batches",
    (
        lines(
            Text(
                "Batch fill",
                "Items in a call, of those its caps allow. Bulk work should fill its calls.",
                "percentunit",
            ),
            Query(mean("call_fill_ratio", by="model"), "{{model}}"),
        ),
        lines(
            Text("Items per call", "How many items one provider call carries.", "short"),
            Query(quantile(0.5, "call_items", by="model"), "p50 {{model}}"),
            Query(quantile(0.9, "call_items", by="model"), "p90 {{model}}"),
        ),
        lines(
            Text(
                "Interactive latency meanwhile",
                "p99 of the requests somebody waits for: bulk work must not show here.",
                "s",
            ),
            Query(quantile(0.99, "request_seconds", 'class="interactive"'), "p99"),
        ),
    ),
)

BULK: Final = Board(
    uid="embedpool-bulk",
    title="embedpool / Bulk",
    description="The work nobody waits for by the second: jobs, throughput, what waits, batches.",
    rows=(_JOBS, _THROUGHPUT, _WAITING, _BATCHES),
)
