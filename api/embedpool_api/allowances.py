"""What an account's limits say of a request, and how its caller is told. Pure.

The admission script decides; here its arguments are written and its verdicts are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Final, NamedTuple

from embedpool_shared.accounts import PICO_PER_USD, Limits
from embedpool_shared.errors import BudgetExceeded, CallerError, RateLimited, RequestExceedsLimit

Header = tuple[bytes, bytes]
MINUTE_MS: Final = 60_000
ANYBODYS_GUESS_S: Final = 1.0
"""When a request that others in parallel keep out may try again: nobody knows when one ends."""
_REQUEST_HEADERS: Final = (
    b"x-ratelimit-limit-requests",
    b"x-ratelimit-remaining-requests",
    b"x-ratelimit-reset-requests",
)
_TOKEN_HEADERS: Final = (
    b"x-ratelimit-limit-tokens",
    b"x-ratelimit-remaining-tokens",
    b"x-ratelimit-reset-tokens",
)
_REPLY_HEAD: Final = 4
_REPLY_STEP: Final = 3


class Limit(IntEnum):
    """Which limit a verdict is about, as the script numbers them."""

    REQUESTS = 1
    TOKENS = 2
    PARALLEL = 3
    BUDGET = 4


class Standing(NamedTuple):
    """Where one account stands after it let a request in or refused it."""

    account: str
    limits: Limits
    verdict: int  # 0: let in; a `Limit`: reached for now; minus a `Limit`: could never let it in
    wait_ms: int  # until it would be let in; 0: nobody knows
    requests: int  # counted in the last minute
    tokens: int
    requests_reset_ms: int  # until none counts any more
    tokens_reset_ms: int

    @property
    def is_admitted(self) -> bool:
        """Whether the account let the request in."""
        return self.verdict == 0

    @property
    def is_reserved(self) -> bool:
        """Whether the account keeps a reservation until the request is settled or given back."""
        return self.verdict == 0 and reserves(self.limits)

    @property
    def is_in_flight(self) -> bool:
        """Whether the account counts the request until it ends."""
        return self.verdict == 0 and self.limits.parallel is not None

    @property
    def kind(self) -> str:
        """The account's kind in a caller's words."""
        return self.account.partition(":")[0]


def reserves(limits: Limits) -> bool:
    """Tell whether an account with these limits reserves what it lets in."""
    return limits.rpm is not None or limits.tpm is not None or limits.budget_pico_usd is not None


def limit_arguments(limits: Limits) -> list[int | str]:
    """Write the limits as the script reads them."""
    wanted = (limits.rpm, limits.tpm, limits.parallel, limits.budget_pico_usd)
    return ["" if limit is None else limit for limit in wanted]


def standings(
    account: str, limits: Limits, reply: Sequence[int], tokens: Iterable[int]
) -> list[Standing]:
    """Read the script's reply about requests of so many tokens each, in their order."""
    requests_reset_ms, tokens_reset_ms, requests, used = reply[:_REPLY_HEAD]
    refused = {
        reply[at]: (reply[at + 1], reply[at + 2])
        for at in range(_REPLY_HEAD, len(reply), _REPLY_STEP)
    }
    found = []
    for place, more in enumerate(tokens):
        verdict, wait_ms = refused.get(place, (0, 0))
        if verdict == 0:
            requests, used = requests + 1, used + more
        counted = (requests, used, requests_reset_ms, tokens_reset_ms)
        found.append(Standing(account, limits, verdict, wait_ms, *counted))
    return found


class TooFast(RateLimited):
    """Carries the headers that say where the caller stands."""

    def __init__(
        self, message: str, *, retry_after_s: float, headers: list[Header], limit: Limit
    ) -> None:
        """Say which limit was reached and when another try is worth it."""
        super().__init__(message, code="rate_limit_exceeded", retry_after_s=retry_after_s)
        self.headers = headers
        self.limit = limit


def refusal(asked: Sequence[Standing], *, tokens: int) -> CallerError | None:
    """Choose what to tell the caller; None if all accounts let the request in.

    First what no wait can help, then the budget, then the limit that takes longest.
    """
    refused = [standing for standing in asked if standing.verdict]
    if not refused:
        return None
    for standing in refused:
        if standing.verdict < 0:
            return _exceeds(standing, tokens)
    for standing in refused:
        if standing.verdict == Limit.BUDGET:
            return _used_up(standing)
    return _too_fast(max(refused, key=_wait_s), asked)


def rate_limit_headers(asked: Sequence[Standing]) -> list[Header]:
    """Write `x-ratelimit-*` for the account with least left; none where nothing is limited."""
    headers: list[Header] = []
    requests = tokens = None
    for standing in asked:
        rpm, tpm = standing.limits.rpm, standing.limits.tpm
        if rpm is not None:
            row = (max(0, rpm - standing.requests), rpm, standing.requests_reset_ms)
            requests = row if requests is None else min(requests, row)
        if tpm is not None:
            row = (max(0, tpm - standing.tokens), tpm, standing.tokens_reset_ms)
            tokens = row if tokens is None else min(tokens, row)
    if requests is not None:
        headers += _written(_REQUEST_HEADERS, *requests)
    if tokens is not None:
        headers += _written(_TOKEN_HEADERS, *tokens)
    return headers


def _written(names: Sequence[bytes], left: int, limit: int, reset_ms: int) -> list[Header]:
    bound, remaining, reset = names
    return [(bound, b"%d" % limit), (remaining, b"%d" % left), (reset, _duration(reset_ms))]


@lru_cache(maxsize=256)
def _duration(ms: int) -> bytes:
    return duration(ms).encode()


def duration(ms: int) -> str:
    """Write a duration as OpenAI does: `12ms`, `1.5s`, `6m0s`, `1h0m0s`."""
    if 0 < ms < 1_000:
        return f"{ms}ms"
    minutes, rest_ms = divmod(ms, MINUTE_MS)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{rest_ms / 1_000:g}s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds


def _wait_s(standing: Standing) -> float:
    return standing.wait_ms / 1_000 or ANYBODYS_GUESS_S


def _too_fast(standing: Standing, asked: Sequence[Standing]) -> TooFast:
    wait_s = _wait_s(standing)
    return TooFast(
        f"Rate limit exceeded for {standing.kind}: {_bound(standing)}; try again in {wait_s:g} s",
        retry_after_s=wait_s,
        headers=rate_limit_headers(asked),
        limit=Limit(abs(standing.verdict)),
    )


def _used_up(standing: Standing) -> BudgetExceeded:
    again = f"; it begins anew in {duration(standing.wait_ms)}" if standing.wait_ms else ""
    return BudgetExceeded(
        f"Budget used up for {standing.kind}: {_bound(standing)}{again}", code="budget_exceeded"
    )


def _exceeds(standing: Standing, tokens: int) -> RequestExceedsLimit:
    size = f" of {tokens} tokens" if -standing.verdict == Limit.TOKENS else ""
    return RequestExceedsLimit(
        f"This request{size} is more than its {standing.kind} may ever use at once: "
        f"{_bound(standing)}; send less in one request",
        code="request_exceeds_limit",
    )


def _bound(standing: Standing) -> str:
    limits = standing.limits
    match Limit(abs(standing.verdict)):
        case Limit.REQUESTS:
            return f"{limits.rpm} requests per minute"
        case Limit.TOKENS:
            return f"{limits.tpm} tokens per minute"
        case Limit.PARALLEL:
            return f"{limits.parallel} parallel requests"
        case Limit.BUDGET:
            return f"${(limits.budget_pico_usd or 0) / PICO_PER_USD:g}"
