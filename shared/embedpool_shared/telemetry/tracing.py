"""Whether this process tells traces, and the little that the rest of the program knows of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final, Protocol

ENDPOINT_NAMES: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
EXPORTER_NAME: Final = "OTEL_TRACES_EXPORTER"
DISABLED_NAME: Final = "OTEL_SDK_DISABLED"
MAX_LINKS: Final = 128
"""What OpenTelemetry keeps of a span's links unless told otherwise."""
log = logging.getLogger(__name__)

Attributes = Mapping[str, str | int | float | Sequence[str]]


class SpanKind(Enum):
    """Whose side of a conversation a span is."""

    SERVER = "server"  # somebody asked us
    CLIENT = "client"  # we asked somebody


class Span(Protocol):
    """Something that has begun."""

    traceparent: str
    """How whoever goes on with it names it (W3C)."""

    def end(self, attributes: Attributes, *, error: str = "") -> None:
        """It is over; `error` names the kind of what went wrong."""


class Tracing(Protocol):
    """Tells spans to whoever collects them."""

    def begin(
        self,
        name: str,
        kind: SpanKind,
        *,
        parent: Mapping[str, str] | None = None,
        links: Sequence[str] = (),
    ) -> Span:
        """Begin a span below `parent`, by its W3C headers; `links` are traceparents."""

    def close(self) -> None:
        """Tell what has not been told."""


def tracing(environ: Mapping[str, str], service: str) -> Tracing | None:
    """Begin to tell traces where the environment says so, by OpenTelemetry's own names."""
    exporter = environ.get(EXPORTER_NAME, "").lower()
    has_endpoint = any(environ.get(name) for name in ENDPOINT_NAMES)
    if environ.get(DISABLED_NAME, "").lower() == "true" or exporter == "none":
        return None
    if exporter != "console" and not has_endpoint:
        return None
    try:
        from embedpool_shared.telemetry.opentelemetry_spans import (  # noqa: PLC0415 (an extra)
            exporting,
        )
    except ModuleNotFoundError as missing:
        log.warning("traces_off lacks=%s extra=%s", missing.name, "embedpool[otel]")
        return None
    return exporting(service, to_console=exporter == "console")
