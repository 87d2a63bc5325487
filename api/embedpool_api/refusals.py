"""Why a request was refused before the queue had it, as the metrics say it. Pure."""

from __future__ import annotations

from typing import Final

from embedpool_api.allowances import Limit, TooFast
from embedpool_api.outbox import NoWorker
from embedpool_shared import errors

REASON_OF: Final[dict[type[BaseException], str]] = {
    errors.InvalidApiKey: "auth",
    errors.RouteNotAllowed: "auth",
    errors.ModelNotAllowed: "model",
    errors.ModelNotFound: "model",
    errors.BadRequest: "invalid",
    errors.NotJson: "invalid",
    errors.MethodNotAllowed: "invalid",
    errors.BodyTooLarge: "too_large",
    errors.RateLimited: "rpm",
    errors.BudgetExceeded: "budget",
    errors.Overloaded: "queue_full",
    NoWorker: "no_worker",
    errors.QueueUnavailable: "redis",
    errors.DeadlineExceeded: "deadline",
}


LIMIT_NAMES: Final = {
    Limit.REQUESTS: "rpm",
    Limit.TOKENS: "tpm",
    Limit.PARALLEL: "parallel",
    Limit.BUDGET: "budget",
}


def refusal_reason(error: BaseException) -> str | None:
    """Name the reason by the nearest ancestor that has one; None for what is no refusal."""
    if isinstance(error, TooFast):
        return LIMIT_NAMES[error.limit]
    return next((REASON_OF[cls] for cls in type(error).__mro__ if cls in REASON_OF), None)
