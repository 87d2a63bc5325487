"""A span for each request, below its caller's, by OpenTelemetry's conventions for embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from embedpool_api.passage import Passage
from embedpool_api.paths import EMBEDDINGS
from embedpool_shared.telemetry.spans import Span, SpanKind, Tracing

_CARRIED: Final = (b"traceparent", b"tracestate")


class RequestTraces:
    """Tells requests to `tracing`."""

    def __init__(self, tracing: Tracing) -> None:
        """Begin with none."""
        self._tracing = tracing

    def begin(self, headers: Mapping[bytes, bytes], *, method: str, route: str) -> Span:
        """Begin the span of a request, in its caller's trace where it came with one."""
        parent = {
            name.decode(): value.decode("latin-1")
            for name in _CARRIED
            if (value := headers.get(name)) is not None
        }
        name = "embeddings" if route == EMBEDDINGS else f"{method} {route}"
        return self._tracing.begin(name, SpanKind.SERVER, parent=parent)

    def ended(self, passage: Passage) -> None:
        """End the span of a request that is over."""
        if passage.span is None:
            return
        attributes: dict[str, str | int | float] = {
            "http.request.method": passage.method,
            "embedpool.route": passage.route,
            "embedpool.request.id": passage.request_id,
        }
        if passage.status:
            attributes["http.response.status_code"] = passage.status
        if passage.route == EMBEDDINGS:
            attributes |= _about(passage)
        is_ours = passage.status >= 500 or not passage.status
        error = type(passage.error).__name__ if passage.error is not None else ""
        passage.span.end(attributes, error=error if is_ours else "")


def _about(passage: Passage) -> dict[str, str | int | float]:
    attributes: dict[str, str | int | float] = {"gen_ai.operation.name": "embeddings"}
    if passage.model:
        attributes["gen_ai.request.model"] = passage.model
    if passage.order is not None:
        attributes["embedpool.items"] = len(passage.order.fitted.inputs)
        dimensions = passage.order.fitted.merge.dimensions
        if dimensions:
            attributes["gen_ai.embeddings.dimension.count"] = dimensions
    if passage.replies:
        attributes["gen_ai.usage.input_tokens"] = passage.tokens
    slowest = passage.slowest
    if slowest is not None and slowest.trace is not None:
        attributes["gen_ai.response.model"] = slowest.trace.model
        attributes["gen_ai.provider.name"] = slowest.trace.provider
        attributes["embedpool.queue_ms"] = slowest.queue_ms
        attributes["embedpool.provider_ms"] = slowest.trace.provider_ms
    return attributes
