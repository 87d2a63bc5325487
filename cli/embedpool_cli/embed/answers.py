"""Reads the pool's answer to a request: vectors as bytes, or what its refusal means. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final

import orjson

from embedpool_shared.vectors import FLOAT_BYTES, bytes_of_base64, bytes_of_floats, each, is_finite

MAX_REASON_CHARS: Final = 500
REFUSED_INPUT: Final = frozenset({400, 413, 422})
NOT_NOW: Final = frozenset({408, 409, 425, 429, 503})
KEY: Final = b'"embedding":'
QUOTE: Final = b'"'
PADDING: Final = ord("=")
ESCAPE: Final = b"\\"
BEGINNING: Final = KEY + QUOTE
SUSPECT: Final = re.compile(r"\binput\[(\d{1,5})\]")


class Verdict(Enum):
    """What to do after a refusal."""

    WAIT = auto()  # the pool cannot now; it is the moment, not the texts
    SHRINK = auto()  # … and a smaller request may have it easier
    DOUBT = auto()  # a failure that may be the provider's, or one text's
    SPLIT = auto()  # one of the texts is not wanted
    STOP = auto()  # every request will be refused like this one


@dataclass(frozen=True, slots=True)
class Answered:
    """The vectors of a request."""

    vectors: Sequence[memoryview] = field(repr=False)  # little-endian float32, in order
    dims: int
    tokens: int
    pico_usd: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request has no vectors."""

    verdict: Verdict
    reason: str
    status: int | None = None
    code: str | None = None
    retry_after_s: float | None = None
    suspect: int | None = None  # the one input it names


def answered(body: bytes | bytearray, expected: int) -> Answered | Refusal:
    """Read a 200; anything but `expected` finite vectors of one length is a refusal."""
    try:
        vectors, answer = _cut(body) or _parsed(body)
        entries = answer["data"]
        if len(entries) != expected:
            return _strange(f"{len(entries)} vectors for {expected} texts")
        raw, dims = _raw(vectors)
        if any(entry.get("index", place) != place for place, entry in enumerate(entries)):
            return _strange("its vectors are not in order")
        tokens = int((answer.get("usage") or {}).get("total_tokens") or 0)
    except (ValueError, TypeError, KeyError, AttributeError):
        return _strange("it is no embeddings answer")
    if not dims:
        return _strange("its vectors are not all of one length")
    if not is_finite(raw):
        return _strange("its vectors hold numbers that are none")
    return Answered(list(each(raw, dims)), dims, tokens)


def refused(status: int, headers: Mapping[str, str], body: bytes | bytearray) -> Refusal:
    """Say what an answer that is no 200 means; `headers` are in lower case."""
    error = _error(body)
    message, code, param = (_text(error.get(name)) for name in ("message", "code", "param"))
    found = SUSPECT.search(param or "") or SUSPECT.match(message or "")
    return Refusal(
        verdict=_verdict(status, code, param, may_retry=headers.get("x-should-retry") != "false"),
        reason=(message or f"the pool answered with status {status}")[:MAX_REASON_CHARS],
        status=status,
        code=code,
        retry_after_s=_retry_after_s(headers),
        suspect=int(found[1]) if found else None,
    )


def _verdict(status: int, code: str | None, param: str | None, *, may_retry: bool) -> Verdict:
    if status in REFUSED_INPUT:
        # A parameter is the command's, and wrong in every request.
        is_ours = param is not None and not param.startswith("input")
        return Verdict.STOP if is_ours else Verdict.SPLIT
    if status == 504 or code == "overloaded":
        return Verdict.SHRINK
    if status in NOT_NOW and may_retry:
        return Verdict.WAIT
    return Verdict.DOUBT if status >= 500 else Verdict.STOP


def _cut(body: bytes | bytearray) -> tuple[Sequence[memoryview], Any] | None:
    """Cut vectors in base64 out of an answer and parse the rest: a fifth of parsing it all.

    In the rest each has its number in its place. None where an answer is not written like this.
    """
    start = body.find(BEGINNING)
    size = body.find(QUOTE, start + len(BEGINNING)) - start - len(BEGINNING)
    if start < 0 or size < 1 or ESCAPE in body:
        return None
    view, vectors, rest, at = memoryview(body), list[memoryview](), list[bytes | bytearray](), 0
    while start >= 0:
        end = start + len(BEGINNING) + size
        if body[end : end + 1] != QUOTE:
            return None
        rest += (body[at:start], b"%b%d" % (KEY, len(vectors)))
        vectors.append(view[end - size : end])
        at = end + 1
        start = body.find(BEGINNING, at)
    answer = orjson.loads(b"".join(rest) + body[at:])
    if [entry["embedding"] for entry in answer["data"]] != list(range(len(vectors))):
        return None
    return vectors, answer


def _parsed(body: bytes | bytearray) -> tuple[Sequence[Any], Any]:
    answer = orjson.loads(body)
    return [entry["embedding"] for entry in answer["data"]], answer


def _raw(embeddings: Sequence[Any]) -> tuple[bytes, int]:
    """Read all vectors of an answer in a row, and the length of each; 0 where they differ."""
    first = embeddings[0]
    size = len(first)
    if any(len(embedding) != size for embedding in embeddings):
        return b"", 0
    if isinstance(first, memoryview) and first[-1] != PADDING:
        # Without padding they are one text: decoded at once at a fifth of the cost.
        raw = bytes_of_base64(b"".join(embeddings))
    else:
        raw = b"".join(map(_vector, embeddings))
    dims, odd = divmod(len(raw), FLOAT_BYTES * len(embeddings))
    return raw, 0 if odd else dims


def _vector(embedding: Any) -> bytes:
    if isinstance(embedding, memoryview):
        return bytes_of_base64(bytes(embedding))
    if isinstance(embedding, str):
        return bytes_of_base64(embedding)
    return bytes_of_floats(embedding)


def _strange(what: str) -> Refusal:
    return Refusal(Verdict.DOUBT, f"a wrong answer: {what}", status=200)


def _error(body: bytes | bytearray) -> Mapping[str, Any]:
    try:
        answer = orjson.loads(body)
    except ValueError:
        return {}
    error = answer.get("error") if isinstance(answer, dict) else None
    return error if isinstance(error, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        told = headers.get(name, "")
        # A date is not understood: our own pause does.
        if told.replace(".", "", 1).isdecimal() and told.isascii():
            return float(told) * unit_s
    return None
