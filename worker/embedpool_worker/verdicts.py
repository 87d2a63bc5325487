"""What a provider's error means for the batch, for the key, and for the caller. Pure."""

from __future__ import annotations

from enum import Enum
from typing import Final

from embedpool_shared.errors import (
    CallTooLarge,
    CapExceeded,
    EmbedPoolError,
    InputRefused,
    KeyForbidden,
    KeyRejected,
    NoKeys,
    ProviderError,
    ProviderFailed,
    ProviderThrottled,
    ProviderUnavailable,
    QuotaExhausted,
    RefusedInput,
    WrongAnswer,
)


class Verdict(Enum):
    """What to do with the batch."""

    GIVE_UP = "give up"  # tell the callers
    SPLIT = "split"  # halve it: only the offending input's owner gets the error
    SWITCH_KEY = "switch key"  # the same call at once, with another key
    TRY_AGAIN = "try again"  # the same call after a pause


VERDICT_OF: Final[dict[type[ProviderError], Verdict]] = {
    RefusedInput: Verdict.SPLIT,
    CapExceeded: Verdict.SPLIT,
    CallTooLarge: Verdict.SPLIT,
    ProviderThrottled: Verdict.SWITCH_KEY,
    QuotaExhausted: Verdict.SWITCH_KEY,
    KeyRejected: Verdict.SWITCH_KEY,
    KeyForbidden: Verdict.SWITCH_KEY,
    ProviderUnavailable: Verdict.TRY_AGAIN,
    WrongAnswer: Verdict.SPLIT,  # after the one further try that `dispatch` gives it
}


def verdict(error: ProviderError, *, inputs: int) -> Verdict:
    """Judge an error of a call of so many distinct inputs; a single one cannot be split."""
    judged = VERDICT_OF.get(type(error), Verdict.GIVE_UP)
    return Verdict.GIVE_UP if judged is Verdict.SPLIT and inputs == 1 else judged


def for_caller(error: ProviderError, provider: str) -> EmbedPoolError:
    """Put the error that ends a batch into the caller's terms, prefixed with the provider."""
    match error:
        case RefusedInput() | CapExceeded():
            param = error.param or "input"  # the provider's own may be `model` or `dimensions`
            return InputRefused(f"[{provider}] {error.message}", param=param, code=error.code)
        case ProviderThrottled() | QuotaExhausted() | KeyRejected():
            return no_keys(provider, retry_after_s=error.retry_after_s)
        case _:
            return ProviderFailed(f"[{provider}] {error.message}")


def no_keys(provider: str, *, retry_after_s: float | None) -> NoKeys:
    """Say that no key of this provider can be used, and when one can."""
    return NoKeys(
        f"[{provider}] No available keys for provider '{provider}'",
        code="no_keys",
        retry_after_s=retry_after_s,
    )
