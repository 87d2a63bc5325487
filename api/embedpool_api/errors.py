"""The only table of statuses: what a caller sees of each of our errors.

`error_body` writes the envelope that OpenAI's clients read, always with all four keys.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import orjson

from embedpool_shared import errors

Header = tuple[bytes, bytes]


class Row(NamedTuple):
    """How one kind of error looks from outside."""

    status: int
    type: str
    code: str | None = None
    retry_after_s: float | None = None  # where the error itself does not know


STATUS_OF: Final[dict[type[errors.EmbedPoolError], Row]] = {
    errors.BadRequest: Row(400, "invalid_request_error"),
    errors.InputRefused: Row(400, "invalid_request_error"),
    errors.InvalidApiKey: Row(401, "invalid_request_error", "invalid_api_key"),
    errors.ModelNotAllowed: Row(403, "invalid_request_error", "model_not_allowed"),
    errors.RouteNotAllowed: Row(403, "invalid_request_error", "model_not_allowed"),
    errors.RequestExceedsLimit: Row(400, "invalid_request_error", "request_exceeds_limit"),
    errors.RateLimited: Row(429, "rate_limit_error", "rate_limit_exceeded"),
    errors.BudgetExceeded: Row(429, "insufficient_quota", "budget_exceeded"),
    errors.NotFound: Row(404, "invalid_request_error"),
    errors.OwnKeyRefused: Row(401, "invalid_request_error"),
    errors.OwnKeyForbidden: Row(403, "invalid_request_error"),
    errors.OwnKeyThrottled: Row(429, "rate_limit_error"),
    errors.ModelNotFound: Row(404, "invalid_request_error", "model_not_found"),
    errors.PathNotFound: Row(404, "invalid_request_error"),
    errors.MethodNotAllowed: Row(405, "invalid_request_error"),
    errors.BodyTooLarge: Row(413, "invalid_request_error"),
    errors.NotJson: Row(415, "invalid_request_error"),
    errors.Overloaded: Row(503, "overloaded_error", "overloaded", 1.0),
    errors.QueueUnavailable: Row(503, "service_unavailable", "queue_unavailable", 1.0),
    errors.NoKeys: Row(503, "no_keys", "no_keys"),
    errors.DeadlineExceeded: Row(504, "timeout_error", "timeout"),
    errors.ProviderFailed: Row(502, "upstream_error"),
    errors.InternalError: Row(500, "server_error"),
}
UNMAPPED: Final = STATUS_OF[errors.InternalError]
TYPE_OF_CODE: Final = {"max_tokens_per_request": "max_tokens_per_request"}
"""Codes for which OpenAI has a type of its own."""
MAX_RETRY_AFTER_S: Final = 120.0
"""A client told to wait longer gives up at once instead."""


def row_of(error: BaseException) -> Row:
    """Find the nearest mapped ancestor; an unmapped error is our own fault."""
    for cls in type(error).__mro__:
        if cls in STATUS_OF:
            return STATUS_OF[cls]
    return UNMAPPED


def error_body(error: BaseException, *, request_id: str = "") -> tuple[int, list[Header], bytes]:
    """Write an error as status, headers and body; of a bug, only that it was one and its id."""
    row = row_of(error)
    known = error if isinstance(error, errors.EmbedPoolError) and row is not UNMAPPED else None
    code = (known.code if known else None) or row.code
    content = {
        "message": known.message if known else _bug(request_id),
        "type": TYPE_OF_CODE.get(code or "", row.type),
        "param": known.param if known else None,
        "code": code,
    }
    body = orjson.dumps({"error": content})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    own = getattr(error, "headers", ()) if isinstance(error, errors.RateLimited) else ()
    return row.status, [*headers, *own, *_advice(error, row)], body


def _bug(request_id: str) -> str:
    return f"embedpool failed on this request; its id is {request_id or 'in x-request-id'}"


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
