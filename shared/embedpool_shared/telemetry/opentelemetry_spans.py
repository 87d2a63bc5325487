"""The only border to OpenTelemetry; imported where traces are wanted, and nowhere else."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SpanExporter,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from embedpool_shared.telemetry.spans import MAX_LINKS, Attributes, SpanKind

_KINDS: Final = {SpanKind.SERVER: trace.SpanKind.SERVER, SpanKind.CLIENT: trace.SpanKind.CLIENT}
_NOBODY: Final = Context()
_propagator: Final = TraceContextTextMapPropagator()


class OtelSpan:
    """A span of OpenTelemetry's."""

    __slots__ = ("_span", "traceparent")

    def __init__(self, span: trace.Span) -> None:
        """Wrap one that has begun."""
        about = span.get_span_context()
        self._span = span
        self.traceparent = f"00-{about.trace_id:032x}-{about.span_id:016x}-{about.trace_flags:02x}"

    def end(self, attributes: Attributes, *, error: str = "") -> None:
        """End it."""
        self._span.set_attributes({**attributes})
        if error:
            self._span.set_attribute("error.type", error)
            self._span.set_status(trace.StatusCode.ERROR)
        self._span.end()


class OtelTracing:
    """Tells spans to a provider of OpenTelemetry's."""

    def __init__(self, provider: TracerProvider) -> None:
        """Use a provider that is nobody else's."""
        self._provider = provider
        self._tracer = provider.get_tracer("embedpool")

    def begin(
        self,
        name: str,
        kind: SpanKind,
        *,
        parent: Mapping[str, str] | None = None,
        links: Sequence[str] = (),
    ) -> OtelSpan:
        """Begin a span."""
        context = _propagator.extract(parent, context=_NOBODY) if parent else _NOBODY
        span = self._tracer.start_span(
            name,
            context=context,
            kind=_KINDS[kind],
            links=[trace.Link(_named(link)) for link in links[:MAX_LINKS]],
            record_exception=False,
        )
        return OtelSpan(span)

    def close(self) -> None:
        """Tell what has not been told."""
        self._provider.shutdown()


def _named(traceparent: str) -> trace.SpanContext:
    context = _propagator.extract({"traceparent": traceparent}, context=_NOBODY)
    return trace.get_current_span(context).get_span_context()


def exporting(service: str, *, to_console: bool) -> OtelTracing:
    """Tell a collector, by OpenTelemetry's environment names, or the terminal."""
    exporter: SpanExporter = (
        ConsoleSpanExporter(out=sys.stderr) if to_console else OTLPSpanExporter()
    )
    # The environment's own service.name wins.
    resource = Resource({"service.name": service}).merge(Resource.create())
    named = Resource.create({"service.name": service}) if _is_unnamed(resource) else resource
    provider = TracerProvider(resource=named, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return OtelTracing(provider)


def _is_unnamed(resource: Resource) -> bool:
    return str(resource.attributes.get("service.name", "")).startswith("unknown_service")
