"""A span for each provider call, linked to the requests it is made for.

Nothing of a trace goes to the provider: whose calls we are is nobody else's affair.
"""

from __future__ import annotations

from embedpool_shared.telemetry.spans import MAX_LINKS, SpanKind, Tracing
from embedpool_worker.called import Called


class CallTraces:
    """Tells provider calls to `tracing`."""

    def __init__(self, tracing: Tracing) -> None:
        """Begin with none."""
        self._tracing = tracing

    def began(self, model: str, called: Called) -> None:
        """Begin the span of a call."""
        links = [job.job.trace for job in called.jobs(most=MAX_LINKS) if job.job.trace]
        called.span = self._tracing.begin(f"embeddings {model}", SpanKind.CLIENT, links=links)

    def ended(self, model: str, called: Called) -> None:
        """End it."""
        if called.span is None:
            return
        attributes: dict[str, str | int | float] = {
            "gen_ai.operation.name": "embeddings",
            "gen_ai.provider.name": called.deployment.provider,
            "gen_ai.request.model": called.deployment.upstream_model or model,
            "embedpool.deployment": called.deployment_id,
            "embedpool.key": called.key_id,
            "embedpool.items": len(called.items),
            "embedpool.tries": called.tries,
            "embedpool.outcome": called.outcome or "cut off",
        }
        if called.is_answered:
            attributes["gen_ai.usage.input_tokens"] = called.tokens
        error = type(called.error).__name__ if called.error is not None else ""
        called.span.end(attributes, error=error)
