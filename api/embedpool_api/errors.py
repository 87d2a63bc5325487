"""Answers an error: status, headers, and the envelope that OpenAI's clients read. Pure."""

from __future__ import annotations

import math
from typing import Final

import orjson

from embedpool_shared import errors
from embedpool_shared.statuses import Row, error_content, row_of

Header = tuple[bytes, bytes]


MAX_RETRY_AFTER_S: Final = 120.0
"""A client told to wait longer gives up at once instead."""


def error_body(error: BaseException, *, request_id: str = "") -> tuple[int, list[Header], bytes]:
    """Write an error as status, headers and body; of a bug, only that it was one and its id."""
    row = row_of(error)
    body = orjson.dumps({"error": error_content(error, request_id=request_id)})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    own = getattr(error, "headers", ()) if isinstance(error, errors.RateLimited) else ()
    return row.status, [*headers, *own, *_advice(error, row)], body


def _advice(error: BaseException, row: Row) -> list[Header]:
    """Tell the client whether and when another try is worth it."""
    wait_s = getattr(error, "retry_after_s", None)
    wait_s = row.retry_after_s if wait_s is None else wait_s
    if wait_s is None and (row.status in {500, 503} or row.type == "insufficient_quota"):
        return [(b"x-should-retry", b"false")]
    if wait_s is None:
        return [(b"www-authenticate", b"Bearer")] if row.status == 401 else []
    if row.type == "overloaded_error":
        wait_s = min(wait_s, MAX_RETRY_AFTER_S)
    wait_ms = max(1, math.ceil(wait_s * 1_000))
    return [
        (b"retry-after", b"%d" % math.ceil(wait_ms / 1_000)),
        (b"retry-after-ms", b"%d" % wait_ms),
    ]
