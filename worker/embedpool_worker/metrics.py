"""The worker's metrics: what is counted of calls and of what surrounds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from embedpool_shared.jobs import LaneClass
from embedpool_shared.measures import (
    CLASS,
    HOW,
    OUTCOME,
    RETRIED,
    ROW,
    SPLIT,
    UNKNOWN_MODEL,
    WASTE,
    Role,
)
from embedpool_shared.telemetry.meters import Meters
from embedpool_worker.called import CUT_OFF, OK, Called
from embedpool_worker.caps import Caps
from embedpool_worker.deployments import Deployment

WASTE_OF: Final = {"DeadlineExceeded": "expired"} | {
    reason: reason for reason in ("fenced", "cancelled", "count")
}
"""Reasons of ledger records; the others are `FAILED`."""
FAILED: Final = "failed"
RETRIED_OF: Final = {"timeout": "unavailable"} | {why: why for why in RETRIED.values}
CLASS_OF: Final = dict(zip(LaneClass, CLASS.values, strict=True))


class WorkerMetrics:
    """The instruments of one worker process."""

    def __init__(self, meters: Meters, *, version: str = "0") -> None:
        """Count in `meters`."""
        self.calls = meters.counts("calls_total")
        self.seconds = meters.spreads("call_seconds")
        self.in_flight = meters.levels("calls_in_flight")
        self.items = meters.spreads("call_items")
        self.requests = meters.spreads("call_requests")
        self.fill = meters.spreads("call_fill_ratio")
        self.saved_calls = meters.counts("calls_saved_total")
        self.wait_s = meters.spreads("batch_wait_seconds")
        self.waiting = meters.levels("worker_waiting_items")
        self.deduplicated = meters.counts("deduplicated_items_total")
        self.splits = meters.counts("splits_total")
        self.retries = meters.counts("retries_total")
        self.retries_refused = meters.counts("retries_refused_total")
        self.failovers = meters.counts("failovers_total")
        self.leases_lost = meters.counts("leases_lost_total")
        self.redeliveries = meters.counts("redeliveries_total")
        self.dead_letters = meters.counts("dead_letters_total")
        self.commit_s = meters.spreads("commit_seconds").of()
        self.paid = meters.counts("provider_tokens_total")
        self.saved = meters.counts("saved_tokens_total")
        self.wasted = meters.counts("waste_tokens_total")
        self.rows = meters.counts("bulk_rows_total")
        self.redis_up = meters.levels("redis_up").of(Role.WORKER.value)
        self.lag_s = meters.spreads("event_loop_lag_seconds").of(Role.WORKER.value)
        meters.levels("build_info").of(Role.WORKER.value, version).set(1)
        for row in ROW.values:
            self.rows.of(row)

    def declare(self, fleet: Mapping[str, Sequence[Deployment]]) -> None:
        """Begin the series of these models and their deployments at zero."""
        for model in (*fleet, UNKNOWN_MODEL):
            LaneMetrics(self, model)
        for model, deployments in fleet.items():
            for deployment in deployments:
                self._declare(model, deployment)

    def _declare(self, model: str, deployment: Deployment) -> None:
        provider = deployment.provider
        for outcome in OUTCOME.values:
            self.calls.of(model, provider, deployment.id, outcome)
        self.seconds.of(provider, deployment.id)
        self.in_flight.of(provider)
        self.paid.of(model, provider)
        for why in RETRIED.values:
            self.retries.of(provider, why)
        self.retries_refused.of(provider)
        self.failovers.of(provider)


class LaneMetrics:
    """The instruments of one lane."""

    def __init__(self, whole: WorkerMetrics, model: str) -> None:
        """Take those with the label `model`."""
        self._whole = whole
        self._model = model
        self._items = whole.items.of(model)
        self._requests = whole.requests.of(model)
        self._fill = whole.fill.of(model)
        self._saved_calls = whole.saved_calls.of(model)
        self._wait_s = {one: whole.wait_s.of(model, name) for one, name in CLASS_OF.items()}
        self._waiting = {one: whole.waiting.of(model, name) for one, name in CLASS_OF.items()}
        self._deduplicated = {how: whole.deduplicated.of(model, how) for how in HOW.values}
        self._splits = {why: whole.splits.of(model, why) for why in SPLIT.values}
        self._wasted = {why: whole.wasted.of(model, why) for why in WASTE.values}
        self._saved = whole.saved.of(model)
        self.leases_lost = whole.leases_lost.of(model)
        self.redeliveries = whole.redeliveries.of(model)
        self.dead_letters = whole.dead_letters.of(model)
        self.commit_s = whole.commit_s

    def call_began(self, called: Called) -> None:
        """Count a call on its way, and how long the oldest of its requests waited for it."""
        self._whole.in_flight.of(called.deployment.provider).add(1)
        leased_at = called.items[0].job.pack.leased_at
        if called.tries == 1 and leased_at:
            self._wait_s[called.lane_class].note(max(0.0, called.began_at - leased_at))

    def call_ended(self, called: Called, caps: Caps) -> None:
        """Count a call that is over."""
        whole, provider = self._whole, called.deployment.provider
        whole.in_flight.of(provider).add(-1)
        outcome = called.outcome
        if outcome == CUT_OFF:
            return
        whole.calls.of(self._model, provider, called.deployment_id, outcome).add()
        whole.seconds.of(provider, called.deployment_id).note(called.took_s)
        if outcome == OK:
            self._items.note(called.inputs)
            self._fill.note(_fill(called, caps))
        if called.requests:
            self._shared(called)

    def _shared(self, called: Called) -> None:
        """Count who shared an answered call, and the items that were not sent for it."""
        self._requests.note(called.requests)
        self._saved_calls.add(called.requests - 1)
        in_batch = len(called.items) - called.inputs
        if in_batch:
            self._deduplicated["batch"].add(in_batch)
        if called.joined:
            self._deduplicated["flight"].add(called.joined)

    def cached(self, items: int) -> None:
        """Count items that the cache knew."""
        self._deduplicated["cache"].add(items)

    def split(self, why: str) -> None:
        """Count a call that was cut into parts."""
        self._splits[why if why in self._splits else "cap"].add()

    def tried_again(self, provider: str, why: str, *, is_failover: bool) -> None:
        """Count a further try."""
        self._whole.retries.of(provider, RETRIED_OF.get(why, "wrong")).add()
        if is_failover:
            self._whole.failovers.of(provider).add()

    def retry_refused(self, provider: str) -> None:
        """Count a further try that the budget forbade."""
        self._whole.retries_refused.of(provider).add()

    def waiting(self, lane_class: LaneClass, items: int) -> None:
        """Say how many items wait here."""
        self._waiting[lane_class].set(items)

    def rolled_up(
        self, paid: Iterable[tuple[str, int]], saved: int, wasted: Iterable[tuple[str, int]]
    ) -> None:
        """Count tokens, by provider and by reason, as the ledger has them."""
        for provider, tokens in paid:
            self._whole.paid.of(self._model, provider).add(tokens)
        self._saved.add(saved)
        for reason, tokens in wasted:
            self._wasted[WASTE_OF.get(reason, FAILED)].add(tokens)


def _fill(called: Called, caps: Caps) -> float:
    items = called.inputs / caps.max_items
    tokens = called.tokens / caps.max_call_tokens if caps.max_call_tokens else 0.0
    return max(items, tokens)
