"""Writes an answer: vectors as base64 or JSON floats, and the headers that go with them. Pure.

Answers are written in chunks of at most about a millisecond of CPU, so that a large one does not
hold up everybody else's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import orjson

from embedpool_shared.vectors import FLOAT_BYTES, base64_of, each, json_floats

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from embedpool_shared.accounts import Identity
    from embedpool_shared.jobs import CallTrace, JobReply

Header = tuple[bytes, bytes]
Part = tuple[bytes, int]
"""The vectors of one job, and the dimensions of each."""

MAX_CHUNK_FLOATS: Final = 24_576
"""As JSON, at about 30 ns each."""
MAX_CHUNK_BASE64_FLOATS: Final = 131_072
"""As base64, at about 8 ns each where the memory is cold; a vector's frame costs as 256 more."""
_FRAME_FLOATS: Final = 256
_HEAD: Final = b'{"object":"list","data":['
_PICO: Final = 10**12


def embedding_body(
    parts: Sequence[Part], *, is_base64: bool, model: str, prompt_tokens: int
) -> bytes:
    """Write the whole body at once; see `embedding_chunks`."""
    return b"".join(
        embedding_chunks(parts, is_base64=is_base64, model=model, prompt_tokens=prompt_tokens)
    )


def embedding_chunks(
    parts: Sequence[Part], *, is_base64: bool, model: str, prompt_tokens: int
) -> Iterator[bytes]:
    """Write the body of an answer, indices 0 … n-1 in the order of `parts`, piece by piece."""
    budget = MAX_CHUNK_BASE64_FLOATS if is_base64 else MAX_CHUNK_FLOATS
    written: list[bytes] = [_HEAD]
    floats = index = 0
    for vectors, dims in parts:
        for vector in each(vectors, dims):
            written.append(_item(index, vector, is_base64=is_base64))
            index += 1
            floats += _cost(len(vector), dims, is_base64=is_base64)
            if floats >= budget:
                yield b"".join(written)
                written, floats = [], 0
    written.append(_tail(model, prompt_tokens))
    yield b"".join(written)


def is_small(parts: Sequence[Part], *, is_base64: bool) -> bool:
    """Say whether the body is one chunk's work, so that nobody need be let pass meanwhile."""
    budget = MAX_CHUNK_BASE64_FLOATS if is_base64 else MAX_CHUNK_FLOATS
    return sum(_cost(len(vectors), dims, is_base64=is_base64) for vectors, dims in parts) < budget


def answer_headers(
    *, length: int | None, processing_ms: float, call_id: str, model: str, cost_pico_usd: int
) -> list[Header]:
    """List the headers of every 200; `length` None leaves the framing to the server."""
    cost = _usd(cost_pico_usd)
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


def charged_tokens(reply: JobReply) -> int:
    """Count what a job costs: what came from the cache is free."""
    return reply.tokens - reply.cached_tokens


def key_spend_header(identity: Identity) -> Header:
    """Tell what the key had spent when it was last looked up."""
    return (b"x-litellm-key-spend", _usd(identity.key_cost_pico_usd))


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


def header_value(text: str) -> bytes:
    """Write any text as a header's value: what is not printable ASCII becomes `?`."""
    if text.isascii() and text.isprintable():
        return text.encode("ascii")
    return bytes(ord(letter) if " " <= letter <= "~" else 0x3F for letter in text)


def _cost(size_bytes: int, dims: int, *, is_base64: bool) -> int:
    floats = size_bytes // FLOAT_BYTES
    return floats + _FRAME_FLOATS * (floats // dims) if is_base64 else floats


def _item(index: int, vector: memoryview, *, is_base64: bool) -> bytes:
    comma = b"," if index else b""
    if is_base64:
        return b'%b{"object":"embedding","index":%d,"embedding":"%b"}' % (
            comma,
            index,
            base64_of(vector),
        )
    return b'%b{"object":"embedding","index":%d,"embedding":%b}' % (
        comma,
        index,
        json_floats(vector),
    )


def _tail(model: str, prompt_tokens: int) -> bytes:
    return b'],"model":%b,"usage":{"prompt_tokens":%d,"total_tokens":%d}}' % (
        orjson.dumps(model),
        prompt_tokens,
        prompt_tokens,
    )


def _usd(pico_usd: int) -> bytes:
    """Write money exactly, in dollars, without an exponent."""
    whole, rest = divmod(pico_usd, _PICO)
    return b"%d.%012d" % (whole, rest) if rest else b"%d.0" % whole


def _provider_ms(trace: CallTrace | None) -> float:
    return 0.0 if trace is None else trace.provider_ms
