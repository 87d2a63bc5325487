"""Every metric embedpool exposes, as data: what it is, how it is labelled, who exposes it. Pure.

Instruments, exporters, dashboards, rules and the reference page are made from this table or checked
against it. A label's values come from the configuration or are listed here, never from a caller:
an unknown model is `unknown`, the teams after the first `MAX_TEAMS` are `other`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

LATENCY_OBJECTIVE_S: Final = 2.5
"""Interactive requests should be answered within it; an edge of every histogram in seconds."""
SECONDS_EDGES: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, LATENCY_OBJECTIVE_S, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
COUNT_EDGES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0, 2_048.0)
RATIO_EDGES: Final = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)

UNKNOWN_MODEL: Final = "unknown"
"""The label of every model that is not in the catalogue."""
NO_MODEL: Final = "-"
"""The label of requests that are about no model: all but embeddings."""
MAX_TEAMS: Final = 200
OTHER_TEAM: Final = "other"
"""The label of the teams after the first `MAX_TEAMS`."""
NO_TEAM: Final = "-"
"""The label of callers without a team."""


class Kind(StrEnum):
    """What Prometheus calls its types."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Role(StrEnum):
    """Whose scrape target exposes a metric."""

    API = "api"
    WORKER = "worker"
    BOTH = "both"


class Combine(StrEnum):
    """How the values of a role's processes become the one its target shows."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"
    POOL = "pool"  # read from Redis at scrape: every target shows the whole pool's value


@dataclass(frozen=True, slots=True)
class Label:
    """A label; `values` are all it can have, and empty where the configuration decides."""

    name: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric."""

    name: str
    kind: Kind
    help: str
    labels: tuple[Label, ...]
    role: Role
    buckets: tuple[float, ...] = ()  # of a histogram, without +Inf
    combine: Combine = Combine.SUM

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels' names, in order."""
        return tuple(label.name for label in self.labels)

    @property
    def series(self) -> tuple[str, ...]:
        """The names under which Prometheus stores it."""
        if self.kind is Kind.HISTOGRAM:
            return (f"{self.name}_bucket", f"{self.name}_sum", f"{self.name}_count")
        return (self.name,)

    def is_of(self, role: Role) -> bool:
        """Tell whether the target of `role` exposes it."""
        return self.role in {role, Role.BOTH}


MODEL: Final = Label("model")
TEAM: Final = Label("team")
CLASS: Final = Label("class", ("interactive", "bulk"))
PROVIDER: Final = Label("provider")
DEPLOYMENT: Final = Label("deployment")
KEY: Final = Label("key")
VERSION: Final = Label("version")
STATUS: Final = Label("status")
"""The HTTP status: those of the api's own table."""
ROLE: Final = Label("role", (Role.API.value, Role.WORKER.value))
ROUTE: Final = Label(
    "route",
    ("embeddings", "models", "keys", "teams", "users", "spend", "files", "batches", "ops", "other"),
)
REFUSAL: Final = Label(
    "reason",
    ("auth", "model", "invalid", "too_large", "rpm", "tpm", "parallel", "budget",
     "queue_full", "no_worker", "redis", "deadline"),
)  # fmt: skip
CACHED: Final = Label("outcome", ("hit", "miss"))
KEY_STATE: Final = Label("state", ("ready", "cooling", "open", "retired"))
LIMIT: Final = Label("limit", ("requests", "tokens"))
OUTCOME: Final = Label(
    "outcome",
    ("ok", "throttled", "quota", "rejected", "unavailable", "timeout", "wrong", "refused", "cap"),
)
HOW: Final = Label("how", ("batch", "flight", "cache"))
SPLIT: Final = Label("why", ("cap", "refused", "wrong"))
RETRIED: Final = Label("why", ("throttled", "quota", "rejected", "unavailable", "wrong"))
WASTE: Final = Label("reason", ("fenced", "cancelled", "expired", "failed", "count"))
JOB_STATE: Final = Label(
    "state",
    ("validating", "in_progress", "finalizing", "cancelling",
     "completed", "failed", "expired", "cancelled"),
)  # fmt: skip
ROW: Final = Label("outcome", ("answered", "failed", "expired", "cancelled"))


def _counter(role: Role, name: str, text: str, *labels: Label) -> Measure:
    return Measure(f"embedpool_{name}", Kind.COUNTER, text, labels, role)


def _gauge(
    role: Role, name: str, text: str, *labels: Label, combine: Combine = Combine.SUM
) -> Measure:
    return Measure(f"embedpool_{name}", Kind.GAUGE, text, labels, role, combine=combine)


def _pool(name: str, text: str, *labels: Label) -> Measure:
    return _gauge(Role.API, name, text, *labels, combine=Combine.POOL)


def _histogram(
    role: Role, name: str, text: str, *labels: Label, buckets: tuple[float, ...] = SECONDS_EDGES
) -> Measure:
    return Measure(f"embedpool_{name}", Kind.HISTOGRAM, text, labels, role, buckets)


_API: Final = (
    _counter(Role.API, "requests_total", "Answered requests.", ROUTE, MODEL, STATUS),
    _histogram(
        Role.API, "request_seconds",
        "Embeddings requests from their arrival to the last byte written, whatever the status.",
        MODEL, CLASS,
    ),
    _gauge(Role.API, "requests_in_flight", "Embeddings requests being answered."),
    _counter(Role.API, "inputs_total", "Inputs of accepted embeddings requests.", MODEL, CLASS),
    _histogram(
        Role.API, "queue_seconds",
        "From a request's arrival in the queue to the beginning of its provider call.",
        MODEL, CLASS,
    ),
    _histogram(Role.API, "provider_seconds", "The provider call that answered a request.", MODEL),
    _counter(Role.API, "refusals_total", "Requests refused before the queue.", REFUSAL),
    _counter(Role.API, "tokens_total", "Tokens returned to callers as usage.", MODEL, TEAM),
    _counter(Role.API, "spend_usd_total", "US dollars charged to callers.", MODEL, TEAM),
    _counter(
        Role.API, "cache_items_total",
        "Items looked up in the vector cache, where it is on.", MODEL, CACHED,
    ),
    _counter(
        Role.API, "client_disconnects_total", "Callers that hung up before their answer.", MODEL
    ),
    _counter(
        Role.API, "slow_requests_total",
        "Requests that took longer than metrics.slow_request_s; the log has the id of each.", MODEL,
    ),
)  # fmt: skip

_POOL: Final = (
    _pool("queue_items", "Items waiting or in flight.", MODEL),
    _pool("queue_tokens", "Tokens waiting or in flight.", MODEL),
    _pool("queue_bytes", "Bytes waiting or in flight.", MODEL),
    _pool("queue_oldest_seconds", "Age of the oldest pack not yet answered.", MODEL, CLASS),
    _pool("rollup_lag_seconds", "Age of the oldest ledger record not yet rolled up.", MODEL),
    _pool("workers_alive", "Worker processes alive."),
    _pool("apis_alive", "Api processes alive."),
    _pool(
        "key_state", "1 for the state a provider key is in, 0 for the others.",
        PROVIDER, KEY, KEY_STATE,
    ),
    _pool("key_in_flight", "Provider calls in flight with a key, of all workers.", PROVIDER, KEY),
    _pool("key_slots", "Provider calls a key may have in flight.", PROVIDER, KEY),
    _pool(
        "key_headroom_ratio",
        "Share of a limit of this minute that a key has left; absent without a limit.",
        PROVIDER, KEY, LIMIT,
    ),
    _pool("key_cooling_seconds", "Time until a key is usable again, 0 if it is.", PROVIDER, KEY),
)  # fmt: skip

_WORKER: Final = (
    _counter(
        Role.WORKER, "calls_total", "Provider calls: HTTP attempts, by how they ended.",
        MODEL, PROVIDER, DEPLOYMENT, OUTCOME,
    ),
    _histogram(Role.WORKER, "call_seconds", "One provider call.", PROVIDER, DEPLOYMENT),
    _gauge(Role.WORKER, "calls_in_flight", "Provider calls in flight.", PROVIDER),
    _histogram(
        Role.WORKER, "call_items", "Different inputs in an answered call.",
        MODEL, buckets=COUNT_EDGES,
    ),
    _histogram(
        Role.WORKER, "call_requests", "Requests that shared an answered call.",
        MODEL, buckets=COUNT_EDGES,
    ),
    _histogram(
        Role.WORKER, "call_fill_ratio",
        "How full an answered call was, by its inputs or its tokens, whichever is fuller.",
        MODEL, buckets=RATIO_EDGES,
    ),
    _counter(
        Role.WORKER, "calls_saved_total",
        "Provider calls made unnecessary: of each call, the requests in it less one.", MODEL,
    ),
    _histogram(
        Role.WORKER, "batch_wait_seconds",
        "From a worker's lease of the oldest request in a call to the beginning of the call.",
        MODEL, CLASS,
    ),
    _gauge(Role.WORKER, "worker_waiting_items", "Items leased and not yet sent.", MODEL, CLASS),
    _counter(
        Role.WORKER, "deduplicated_items_total",
        "Items answered without being sent: the same text was in the call, in flight or cached.",
        MODEL, HOW,
    ),
    _counter(Role.WORKER, "splits_total", "Calls cut into parts.", MODEL, SPLIT),
    _counter(Role.WORKER, "retries_total", "Further tries of a call.", PROVIDER, RETRIED),
    _counter(
        Role.WORKER, "retries_refused_total", "Further tries the retry budget forbade.", PROVIDER
    ),
    _counter(Role.WORKER, "failovers_total", "Further tries made with another key.", PROVIDER),
    _counter(
        Role.WORKER, "leases_lost_total", "Packs another worker took over from this one.", MODEL
    ),
    _counter(Role.WORKER, "redeliveries_total", "Packs delivered again.", MODEL),
    _counter(
        Role.WORKER, "dead_letters_total",
        "Requests given up because they ended worker after worker.", MODEL,
    ),
    _histogram(Role.WORKER, "commit_seconds", "One commit, as the worker saw it."),
    _counter(
        Role.WORKER, "provider_tokens_total", "Tokens paid: as the providers reported them.",
        MODEL, PROVIDER,
    ),
    _counter(
        Role.WORKER, "saved_tokens_total",
        "Tokens used and never paid: deduplicated, cached, or counted in our favour.", MODEL,
    ),
    _counter(Role.WORKER, "waste_tokens_total", "Tokens paid and not used.", MODEL, WASTE),
    _gauge(
        Role.WORKER, "bulk_jobs", "Bulk jobs of the last 24 hours and all that are not over.",
        JOB_STATE, combine=Combine.POOL,
    ),
    _counter(Role.WORKER, "bulk_rows_total", "Rows of bulk jobs that are done with.", ROW),
)  # fmt: skip

_BOTH: Final = (
    _gauge(
        Role.BOTH, "redis_up", "1 while Redis answers every process of the role.",
        ROLE, combine=Combine.MIN,
    ),
    _histogram(Role.BOTH, "event_loop_lag_seconds", "How late a timer of the loop fired.", ROLE),
    _gauge(
        Role.BOTH, "build_info", "1, labelled with what runs.", ROLE, VERSION, combine=Combine.MAX
    ),
)  # fmt: skip

MEASURES: Final = (*_API, *_POOL, *_WORKER, *_BOTH)


def measures_of(role: Role) -> tuple[Measure, ...]:
    """List what the target of a role exposes."""
    return tuple(measure for measure in MEASURES if measure.is_of(role))


_by_name: Final = {measure.name: measure for measure in MEASURES}


def measure(name: str) -> Measure:
    """Find a metric by its name without the prefix; raises `KeyError`."""
    return _by_name[f"embedpool_{name}"]
