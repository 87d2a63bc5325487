"""The only table of statuses: what a caller sees of each of our errors. Pure."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from embedpool_shared import errors


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
    errors.StoreUnavailable: Row(503, "service_unavailable", "file_store_unavailable"),
    errors.InternalError: Row(500, "server_error"),
}
UNMAPPED: Final = STATUS_OF[errors.InternalError]
TYPE_OF_CODE: Final = {"max_tokens_per_request": "max_tokens_per_request"}
"""Codes for which OpenAI has a type of its own."""


def row_of(error: BaseException) -> Row:
    """Find the nearest mapped ancestor; an unmapped error is our own fault."""
    for cls in type(error).__mro__:
        if cls in STATUS_OF:
            return STATUS_OF[cls]
    return UNMAPPED


def error_content(error: BaseException, *, request_id: str = "") -> dict[str, Any]:
    """Describe an error with all four keys; of a bug, only that it was one and its id."""
    row = row_of(error)
    known = error if isinstance(error, errors.EmbedPoolError) and row is not UNMAPPED else None
    code = (known.code if known else None) or row.code
    return {
        "message": known.message if known else _bug(request_id),
        "type": TYPE_OF_CODE.get(code or "", row.type),
        "param": known.param if known else None,
        "code": code,
    }


def _bug(request_id: str) -> str:
    return f"embedpool failed on this request; its id is {request_id or 'in x-request-id'}"
