"""The one place that every request passes once, when it is over, with all that is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic

from embedpool_api.metrics import ApiMetrics
from embedpool_api.passage import ClientDisconnected, Passage
from embedpool_api.paths import EMBEDDINGS, route_of
from embedpool_api.request_log import RequestLog
from embedpool_api.traces import RequestTraces


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """Tells metrics, log and traces of every request."""

    metrics: ApiMetrics
    log: RequestLog
    slow_request_s: float
    traces: RequestTraces | None = None

    def arrived(
        self, request_id: str, method: str, path: str, headers: Mapping[bytes, bytes]
    ) -> Passage:
        """Begin to watch a request."""
        route = route_of(path)
        passage = Passage(request_id, method, route, monotonic())
        if self.traces is not None:
            passage.span = self.traces.begin(headers, method=method, route=route)
        if route == EMBEDDINGS:
            self.metrics.in_flight.add(1)
        return passage

    def ended(self, passage: Passage) -> None:
        """Tell of a request that is over."""
        took_s = monotonic() - passage.began_at
        is_embedding = passage.route == EMBEDDINGS
        is_slow = is_embedding and took_s > self.slow_request_s
        if is_embedding:
            self.metrics.in_flight.add(-1)
        if isinstance(passage.error, ClientDisconnected):
            self.metrics.disconnected(passage.model)
        self.metrics.ended(passage, took_s, is_slow=is_slow)
        self.log.ended(passage, took_s, is_slow=is_slow)
        if self.traces is not None:
            self.traces.ended(passage)
