"""Whether this process tells traces."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from embedpool_shared.telemetry.spans import Tracing

ENDPOINT_NAMES: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
EXPORTER_NAME: Final = "OTEL_TRACES_EXPORTER"
DISABLED_NAME: Final = "OTEL_SDK_DISABLED"
log = logging.getLogger(__name__)


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
