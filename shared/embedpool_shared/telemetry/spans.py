"""What the rest of the program knows of traces: spans that begin and end. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final, Protocol

MAX_LINKS: Final = 128
"""What OpenTelemetry keeps of a span's links unless told otherwise."""

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
