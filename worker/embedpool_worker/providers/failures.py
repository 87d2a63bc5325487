"""What a provider's refusal means: status, headers and body become one `ProviderError`. Pure.

This is the only table of provider statuses. Messages are the provider's own, scrubbed; `code` and
`param` are kept. The number of a cap is read back with `cap_words.cap_named(error.message)`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from embedpool_shared.errors import (
    CapExceeded,
    KeyForbidden,
    KeyRejected,
    ProviderError,
    ProviderThrottled,
    ProviderUnavailable,
    QuotaExhausted,
    RefusedInput,
    WrongAnswer,
)
from embedpool_worker.providers.cap_words import cap_named
from embedpool_worker.providers.complaints import Complaint, complaint_from
from embedpool_worker.providers.retry_after import retry_after_s
from embedpool_worker.providers.scrub import scrubbed

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

KIND_OF_STATUS: Final[Mapping[int, type[ProviderError]]] = {
    400: RefusedInput,
    401: KeyRejected,
    402: QuotaExhausted,
    403: KeyForbidden,
    404: RefusedInput,  # the model or the address, never an input: `param` becomes "model"
    405: RefusedInput,
    408: ProviderUnavailable,
    409: ProviderUnavailable,
    413: CapExceeded,
    422: RefusedInput,
    424: ProviderUnavailable,
    425: ProviderUnavailable,
    429: ProviderThrottled,
}
_WRONG_ADDRESS: Final = (404, 405)
_ABOUT_LIMITS: Final = ("x-ratelimit-", "ratelimit-", "retry-after")

_OUT_OF_MONEY: Final = re.compile(
    r"insufficient_quota|billing_(?:hard_limit_reached|not_active)|credits?_exhausted|arrearage"
    r"|insufficient[ _](?:account )?(?:balance|credits?|funds)|out of credits",
    re.IGNORECASE,
)
_BAD_KEY: Final = re.compile(
    r"api_key_invalid|invalid_api_key|api key (?:not valid|not found|expired)"
    r"|(?:incorrect|invalid|expired) api[ -]?key",
    re.IGNORECASE,
)
_STATUS_OF_WORDS: Final = (
    (re.compile(r"rate.?limit|throttl|too.many.requests|resource_exhausted", re.IGNORECASE), 429),
    (re.compile(r"unauthenticated|authentication|unauthorized", re.IGNORECASE), 401),
    (re.compile(r"permission|forbidden", re.IGNORECASE), 403),
    (re.compile(r"not_?found", re.IGNORECASE), 404),
    (re.compile(r"invalid|bad_?request|validation", re.IGNORECASE), 400),
)


def failure(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now_unix_s: float,
    secrets: Collection[str] = (),
) -> ProviderError:
    """Name the condition an answer other than 200 stands for; `headers` have lower-case names."""
    complaint = complaint_from(body)
    message = scrubbed(complaint.message, secrets) or f"HTTP {status} without a message"
    kind = _kind(status, complaint)
    wait_s = retry_after_s(headers, now_unix_s=now_unix_s)
    error = kind(
        message,
        param="model" if status in _WRONG_ADDRESS else _scrubbed(complaint.param, secrets),
        code=_scrubbed(complaint.code, secrets) or ("model_not_found" if status == 404 else None),
        retry_after_s=complaint.retry_after_s if wait_s is None else wait_s,
    )
    error.headers = limits_in(headers)
    return error


def failure_in_answer(
    body: bytes, *, now_unix_s: float, secrets: Collection[str] = ()
) -> ProviderError:
    """Name the condition a 200 stands for whose body holds an error instead of vectors."""
    complaint = complaint_from(body)
    status = complaint.status or _status_of_words(complaint)
    if status is None:
        message = scrubbed(complaint.message, secrets) or "200 with an unreadable body"
        return WrongAnswer(message, code=_scrubbed(complaint.code, secrets))
    return failure(status, {}, body, now_unix_s=now_unix_s, secrets=secrets)


def limits_in(headers: Mapping[str, str]) -> dict[str, str]:
    """What of an answer's headers is about the key's limits; the rest is nobody's business."""
    return {name: value for name, value in headers.items() if name.startswith(_ABOUT_LIMITS)}


def is_about_every_input(error: ProviderError) -> bool:
    """Whether a refusal would be the same for each input alone, so that bisecting is in vain."""
    return (
        isinstance(error, RefusedInput)
        and error.param is not None
        and not error.param.startswith(("input", "text", "content", "request", "instance"))
    )


def _kind(status: int, complaint: Complaint) -> type[ProviderError]:
    if 400 <= status < 500:
        words = f"{complaint.code} {complaint.kind} {complaint.message}"
        if _OUT_OF_MONEY.search(words):
            return QuotaExhausted
        if status == 400 and _BAD_KEY.search(words):
            return KeyRejected
    kind = KIND_OF_STATUS.get(status)
    if kind is None:
        return RefusedInput if 400 <= status < 500 else ProviderUnavailable
    if kind is RefusedInput and status not in _WRONG_ADDRESS and _smells_of_a_cap(complaint):
        return CapExceeded
    if kind is CapExceeded and complaint.message and not _may_be_a_cap(complaint):
        return RefusedInput
    return kind


def _scrubbed(word: str | None, secrets: Collection[str]) -> str | None:
    return None if word is None else scrubbed(word, secrets)


def _smells_of_a_cap(complaint: Complaint) -> bool:
    return cap_named(f"{complaint.message} {complaint.code or ''}") is not None


def _may_be_a_cap(complaint: Complaint) -> bool:
    # TEI answers 413 for a single input that is too long; halving for ever would not help it.
    return _smells_of_a_cap(complaint) or "token" not in complaint.message.lower()


def _status_of_words(complaint: Complaint) -> int | None:
    words = f"{complaint.code or ''} {complaint.kind or ''}"
    if _OUT_OF_MONEY.search(words):
        return 429
    return next((status for pattern, status in _STATUS_OF_WORDS if pattern.search(words)), None)
