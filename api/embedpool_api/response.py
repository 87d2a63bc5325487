"""The headers that go with an answer. Pure."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedpool_shared.accounts import Identity
    from embedpool_shared.jobs import CallTrace, JobReply

Header = tuple[bytes, bytes]
_PICO: Final = 10**12


def answer_headers(
    *, length: int | None, processing_ms: float, call_id: str, model: str, cost_pico_usd: int
) -> list[Header]:
    """List the headers of every 200; `length` None leaves the framing to the server."""
    cost = exact_usd(cost_pico_usd)
    headers = [
        (b"content-type", b"application/json"),
        (b"openai-processing-ms", b"%d" % processing_ms),
        (b"x-embedpool-cost-usd", cost),
        (b"x-litellm-call-id", call_id.encode("ascii")),
        (b"x-litellm-model-group", header_value(model)),
        (b"x-litellm-response-cost", cost),
    ]
    if length is not None:
        headers.append((b"content-length", b"%d" % length))
    return headers


def key_spend_header(identity: Identity) -> Header:
    """Tell what the key had spent when it was last looked up."""
    return (b"x-litellm-key-spend", exact_usd(identity.key_cost_pico_usd))


def debug_headers(replies: Sequence[JobReply], *, items: int) -> list[Header]:
    """Tell, for `x-embedpool-debug: 1`, where the job that took longest spent its time."""
    slowest = max(replies, key=lambda reply: reply.queue_ms + _provider_ms(reply.trace))
    headers = [
        (b"x-embedpool-queue-ms", b"%.2f" % slowest.queue_ms),
        (b"x-embedpool-cache", _cache_outcome(sum(reply.cached for reply in replies), items)),
    ]
    trace = slowest.trace
    if trace is not None:
        headers += [
            (b"x-embedpool-provider-ms", b"%.2f" % trace.provider_ms),
            (b"x-embedpool-batch-items", b"%d" % trace.items),
            (b"x-embedpool-batch-requests", b"%d" % trace.requests),
            (b"x-embedpool-provider", header_value(trace.provider)),
            (b"x-embedpool-deployment", header_value(trace.deployment)),
            (b"x-embedpool-tries", b"%d" % trace.tries),
        ]
    return headers


def _cache_outcome(cached: int, items: int) -> bytes:
    if cached == items:
        return b"hit"
    return b"partial" if cached else b"miss"


@lru_cache(maxsize=256)
def header_value(text: str) -> bytes:
    """Write any text as a header's value: what is not printable ASCII becomes `?`."""
    if text.isascii() and text.isprintable():
        return text.encode("ascii")
    return bytes(ord(letter) if " " <= letter <= "~" else 0x3F for letter in text)


def exact_usd(pico_usd: int) -> bytes:
    """Write money exactly, in dollars, without an exponent."""
    whole, rest = divmod(pico_usd, _PICO)
    return b"%d.%012d" % (whole, rest) if rest else b"%d.0" % whole


def _provider_ms(trace: CallTrace | None) -> float:
    return 0.0 if trace is None else trace.provider_ms
