"""What a provider says about its own limits in the headers of an answer. Pure.

The names are OpenAI's, which most providers took over. A limit that is not positive means that the
provider does not know (Azure sends 0 or −1), and then what remains of it means nothing either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from embedpool_worker.providers.retry_after import duration_s

LONGEST_HOLD_S: Final = 60.0
"""Limits we keep are a minute's; a later reset is of some other limit, or of the whole of it."""


@dataclass(frozen=True, slots=True)
class SaidLimit:
    """One limit as the provider stated it; None is unknown."""

    limit: int | None = None
    remaining: int | None = None
    reset_s: float = 0.0  # until `remaining` is `limit` again

    @property
    def is_used_up(self) -> bool:
        """Whether the provider says that nothing remains."""
        return self.limit is not None and self.remaining == 0 and self.reset_s > 0


@dataclass(frozen=True, slots=True)
class Said:
    """Both limits of one answer."""

    requests: SaidLimit
    tokens: SaidLimit

    @property
    def rest_s(self) -> float:
        """How long nothing remains of either limit; 0.0 if something does."""
        limits = (self.requests, self.tokens)
        return max((limit.reset_s for limit in limits if limit.is_used_up), default=0.0)


def said_limits(headers: Mapping[str, str]) -> Said | None:
    """Read `x-ratelimit-*`; `headers` have lower-case names. None where nothing is said."""
    if "x-ratelimit-limit-requests" not in headers and "x-ratelimit-limit-tokens" not in headers:
        return None
    requests, tokens = _limit(headers, "requests"), _limit(headers, "tokens")
    if requests.limit is None and tokens.limit is None:
        return None
    return Said(requests, tokens)


def _limit(headers: Mapping[str, str], what: str) -> SaidLimit:
    limit = _count(headers.get(f"x-ratelimit-limit-{what}"))
    if not limit:
        return SaidLimit()
    reset_s = duration_s(headers.get(f"x-ratelimit-reset-{what}", "")) or 0.0
    return SaidLimit(
        limit=limit,
        remaining=_count(headers.get(f"x-ratelimit-remaining-{what}")),
        reset_s=min(max(reset_s, 0.0), LONGEST_HOLD_S),
    )


def _count(text: str | None) -> int | None:
    """Read a whole number that is not negative."""
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None
