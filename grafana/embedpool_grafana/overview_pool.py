"""The Overview's rows about the pool itself: batches, the queue, processes, keys and Redis."""

from __future__ import annotations

from typing import Final

from embedpool_grafana.boards import Row
from embedpool_grafana.key_states import STATES, key_states
from embedpool_grafana.panels import BAD, GOOD, AnyPanel, Text, lines, rows, timeline
from embedpool_grafana.queries import Query, least, mean, most, now, quantile, rate, selector

MAX_LOOP_LAG_S: Final = 0.25

BATCHES: Final = Row(
    "Batches",
    (
        lines(
            Text(
                "Items and requests per call",
                "How many items, and how many callers' requests, one provider call carries.",
                "short",
            ),
            Query(mean("call_items", by="model"), "items, {{model}}"),
            Query(mean("call_requests", by="model"), "requests, {{model}}"),
        ),
        lines(
            Text(
                "Batch fill",
                "Items in a call, of those its caps allow. Low under light load is right: nothing "
                "waits for company.",
                "percentunit",
            ),
            Query(mean("call_fill_ratio", by="model"), "{{model}}"),
        ),
        lines(
            Text(
                "Calls saved",
                "Provider calls made, those that sharing made unnecessary, and items never sent "
                "because the same text was already there.",
                "ops",
            ),
            Query(rate("calls_saved_total"), "calls saved"),
            Query(rate("calls_total"), "calls made"),
            Query(rate("deduplicated_items_total", by="how"), "items not sent, {{how}}"),
        ),
    ),
)


def _waiting(title: str, meaning: str, unit: str, name: str) -> AnyPanel:
    text = Text(title, meaning, unit, span=6)
    return lines(text, Query(now(name, by="model"), "{{model}}"), stacked=True)


QUEUE: Final = Row(
    "Queue",
    (
        _waiting(
            "Items waiting",
            "Items waiting or in flight, true without any worker. If it only grows, the pool is "
            "slower than its callers.",
            "short",
            "queue_items",
        ),
        lines(
            Text("Oldest pack", "Age of the oldest pack not yet answered.", "s", span=6),
            Query(most("queue_oldest_seconds", by="model, class"), "{{model}} {{class}}"),
        ),
        _waiting(
            "Tokens waiting",
            "Tokens waiting or in flight: what the providers' token limits must let through.",
            "short",
            "queue_tokens",
        ),
        _waiting(
            "Bytes waiting",
            "Bytes waiting or in flight; a model's are bounded by pool.max_queue_bytes.",
            "bytes",
            "queue_bytes",
        ),
    ),
)

WORKERS: Final = Row(
    "Workers, keys and Redis",
    (
        lines(
            Text(
                "Processes alive",
                "Processes that Redis hears of; no value while Redis is away.",
                "short",
            ),
            Query(now("workers_alive"), "workers"),
            Query(now("apis_alive"), "apis"),
        ),
        lines(
            Text(
                "Keys by state",
                "Provider keys that are ready, cooling (throttled, or out of money), open "
                "(failing) and retired (rejected).",
                "short",
            ),
            Query(now("key_state", by="state"), "{{state}}"),
            stacked=True,
        ),
        lines(
            Text(
                "Items in workers",
                "Items that workers hold and have not sent: waiting for company, or for a permit.",
                "short",
            ),
            Query(now("worker_waiting_items", by="class"), "{{class}}"),
            stacked=True,
        ),
        lines(
            Text(
                "Event loop lag",
                f"p99 of how late timers fire. Above {MAX_LOOP_LAG_S} s something blocks a loop, "
                "and every request of that process waits.",
                "s",
            ),
            Query(quantile(0.99, "event_loop_lag_seconds", by="role"), "{{role}}"),
            limit=MAX_LOOP_LAG_S,
        ),
        lines(
            Text(
                "Commits",
                "One commit is one round trip to Redis with answers, acknowledgement and bill.",
                "s",
            ),
            Query(quantile(0.5, "commit_seconds"), "p50"),
            Query(quantile(0.99, "commit_seconds"), "p99"),
        ),
        lines(
            Text(
                "Roll-up lag",
                "Age of the oldest ledger record not yet added to its accounts: so old may the "
                "spend be that budgets see.",
                "s",
            ),
            Query(most("rollup_lag_seconds", by="model"), "{{model}}"),
        ),
        timeline(
            Text(
                "Redis, as each role sees it",
                "Away as soon as one process of the role gets no answer.",
                "short",
                height=6,
            ),
            Query(least("redis_up", by="job, role"), "{{job}} {{role}}"),
            words={"0": ("away", BAD), "1": ("up", GOOD)},
        ),
        rows(
            Text(
                "Keys not ready",
                "Which keys rest or are rejected; empty is good. The dashboard Keys and spend says "
                "for how long.",
                "short",
                height=6,
            ),
            Query(f"{key_states()} > 0"),
            renamed={"provider": "Provider", "key": "Key", "Value": "State"},
            states=STATES,
        ),
        rows(
            Text(
                "What runs",
                "How many targets run each version. Two versions are a deployment under way.",
                "short",
                height=6,
            ),
            Query(f"count by (job, role, version) ({selector('build_info')})"),
            renamed={"job": "Job", "role": "Role", "version": "Version", "Value": "Targets"},
        ),
    ),
)
