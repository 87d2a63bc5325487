"""The api's metrics: what is counted when a request is over."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from embedpool_api.passage import Passage
from embedpool_api.paths import EMBEDDINGS
from embedpool_api.refusals import refusal_reason
from embedpool_shared.accounts import PICO_PER_USD
from embedpool_shared.jobs import LaneClass
from embedpool_shared.measures import (
    CACHED,
    CLASS,
    NO_MODEL,
    NO_TEAM,
    OTHER_TEAM,
    REFUSAL,
    ROUTE,
    UNKNOWN_MODEL,
    Role,
)
from embedpool_shared.statuses import STATUS_OF
from embedpool_shared.telemetry.first_names import FirstNames
from embedpool_shared.telemetry.meters import Meters

STATUSES: Final = tuple(sorted({200, 405, *(row.status for row in STATUS_OF.values())}))
"""What an embeddings request can be answered with."""
CLASS_OF: Final = dict(zip(LaneClass, CLASS.values, strict=True))
_TEXT_OF: Final = {status.value: str(status.value) for status in HTTPStatus}


class ApiMetrics:
    """Counts requests."""

    def __init__(self, meters: Meters, teams: FirstNames, *, has_cache: bool, version: str) -> None:
        """Count in `meters`; `teams` says what to call a team."""
        self._teams = teams
        self._has_cache = has_cache
        self._requests = meters.counts("requests_total")
        self._seconds = meters.spreads("request_seconds")
        self.in_flight = meters.levels("requests_in_flight").of()
        self._inputs = meters.counts("inputs_total")
        self._queued = meters.spreads("queue_seconds")
        self._provided = meters.spreads("provider_seconds")
        self._refusals = meters.counts("refusals_total")
        self._tokens = meters.counts("tokens_total")
        self._usd = meters.counts("spend_usd_total")
        self._cached = meters.counts("cache_items_total")
        self._disconnects = meters.counts("client_disconnects_total")
        self._slow = meters.counts("slow_requests_total")
        self.redis_up = meters.levels("redis_up").of(Role.API.value)
        self.lag_s = meters.spreads("event_loop_lag_seconds").of(Role.API.value)
        meters.levels("build_info").of(Role.API.value, version).set(1)
        for reason in REFUSAL.values:
            self._refusals.of(reason)
        for route in ROUTE.values:
            if route != EMBEDDINGS:
                self._requests.of(route, NO_MODEL, "200")
        self.declare([UNKNOWN_MODEL])

    def declare(self, models: Iterable[str]) -> None:
        """Begin the series of these models at zero."""
        for model in models:
            for status in STATUSES:
                self._requests.of(EMBEDDINGS, model, _TEXT_OF[status])
            for name in CLASS.values:
                self._seconds.of(model, name)
                self._queued.of(model, name)
                self._inputs.of(model, name)
            self._provided.of(model)
            for family in (self._disconnects, self._slow):
                family.of(model)
            for outcome in CACHED.values:
                self._cached.of(model, outcome)
            for team in (NO_TEAM, OTHER_TEAM):
                self._tokens.of(model, team)
                self._usd.of(model, team)

    def ended(self, passage: Passage, took_s: float, *, is_slow: bool) -> None:
        """Count a request that is over."""
        if passage.route != EMBEDDINGS:
            self._answered(passage, NO_MODEL)
            return
        model = passage.model or UNKNOWN_MODEL
        self._answered(passage, model)
        order = passage.order
        lane_class = CLASS_OF[order.lane_class if order else LaneClass.INTERACTIVE]
        self._seconds.of(model, lane_class).note(took_s)
        if is_slow:
            self._slow.of(model).add()
        if order is not None and passage.was_queued:
            self._inputs.of(model, lane_class).add(len(order.fitted.inputs))
        if passage.replies:
            self._charged(passage, model, lane_class)
        elif passage.error is not None and not passage.was_queued:
            self._refused(passage.error)

    def disconnected(self, model: str) -> None:
        """Count a caller that hung up."""
        self._disconnects.of(model or UNKNOWN_MODEL).add()

    def _answered(self, passage: Passage, model: str) -> None:
        if passage.status:
            status = _TEXT_OF.get(passage.status, "500")
            self._requests.of(passage.route, model, status).add()

    def _charged(self, passage: Passage, model: str, lane_class: str) -> None:
        slowest, order = passage.slowest, passage.order
        if slowest is not None and slowest.trace is not None and slowest.trace.tries:
            self._queued.of(model, lane_class).note(slowest.queue_ms / 1_000)
            self._provided.of(model).note(slowest.trace.provider_ms / 1_000)
        if order is None:
            return
        team = self._teams.of(name) if (name := passage.team) else NO_TEAM
        self._tokens.of(model, team).add(passage.tokens)
        if pico_usd := passage.cost_pico_usd:
            self._usd.of(model, team).add(pico_usd / PICO_PER_USD)
        if self._has_cache:
            hits = passage.cached_items
            self._cached.of(model, "hit").add(hits)
            self._cached.of(model, "miss").add(len(order.fitted.inputs) - hits)

    def _refused(self, error: BaseException) -> None:
        reason = refusal_reason(error)
        if reason is not None:
            self._refusals.of(reason).add()
