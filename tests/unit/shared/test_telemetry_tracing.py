"""Traces are off unless asked for, and then they join."""

from __future__ import annotations

import pytest

from embedpool_shared.telemetry.spans import SpanKind
from embedpool_shared.telemetry.tracing import tracing

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from embedpool_shared.telemetry.opentelemetry_spans import OtelTracing

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Collected:
    """A tracing whose spans are at hand."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracing = OtelTracing(provider)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"},
    ],
    ids=["nobody asked", "no exporter", "disabled"],
)
def test_traces_are_off_unless_asked_for(environ: dict[str, str]) -> None:
    assert tracing(environ, "embedpool-api") is None


def test_a_span_goes_on_with_its_callers_trace() -> None:
    collected = Collected()

    span = collected.tracing.begin("embeddings", SpanKind.SERVER, parent={"traceparent": PARENT})
    span.end({"gen_ai.request.model": "m"})

    [seen] = collected.spans
    assert seen.parent is not None
    assert f"{seen.parent.trace_id:032x}" == PARENT.split("-")[1]
    assert span.traceparent.split("-")[1] == PARENT.split("-")[1]
    assert seen.attributes == {"gen_ai.request.model": "m"}
    assert seen.status.status_code is StatusCode.UNSET


def test_a_call_is_linked_to_the_requests_it_is_made_for() -> None:
    collected = Collected()
    requests = [collected.tracing.begin("embeddings", SpanKind.SERVER) for _ in range(2)]

    call = collected.tracing.begin(
        "embeddings m", SpanKind.CLIENT, links=[one.traceparent for one in requests]
    )
    call.end({}, error="ProviderThrottled")

    [seen] = collected.spans
    assert [f"{link.context.span_id:016x}" for link in seen.links] == [
        one.traceparent.split("-")[2] for one in requests
    ]
    assert seen.status.status_code is StatusCode.ERROR
    assert seen.attributes == {"error.type": "ProviderThrottled"}


def test_a_parent_that_makes_no_sense_is_none() -> None:
    collected = Collected()

    collected.tracing.begin("embeddings", SpanKind.SERVER, parent={"traceparent": "x"}).end({})

    assert collected.spans[0].parent is None


def test_a_terminal_will_do(capfd: pytest.CaptureFixture[str]) -> None:
    told = tracing({"OTEL_TRACES_EXPORTER": "console"}, "embedpool-api")
    assert told is not None

    told.begin("embeddings", SpanKind.SERVER).end({})
    told.close()

    assert '"service.name": "embedpool-api"' in capfd.readouterr().err
