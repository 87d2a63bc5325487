"""Whether a line of a batch is tried again, and when. Pure.

What only says that nobody can answer now (no key, a limit, a deadline of one try) is tried again
for as long as the batch lives. A provider that failed, or a bug of ours, is given a few chances.
"""

from __future__ import annotations

from typing import Final

from embedpool_shared.errors import (
    DeadlineExceeded,
    InternalError,
    NoKeys,
    Overloaded,
    ProviderFailed,
    QueueUnavailable,
)
from embedpool_shared.jobs import WireError

MAX_PROVIDER_FAILURES: Final = 5
FIRST_PAUSE_S: Final = 1.0
MAX_PAUSE_S: Final = 60.0
PATIENT: Final = frozenset(
    kind.__name__ for kind in (NoKeys, Overloaded, QueueUnavailable, DeadlineExceeded)
)
LIMITED: Final = frozenset(kind.__name__ for kind in (ProviderFailed, InternalError))


def pause_before_try(
    error: WireError, *, tries: int, provider_failures: int, draw: float
) -> float | None:
    """Pause before the next try after so many in all; None where the error is the line's end.

    Doubling, bounded, spread by `draw` in [0, 1), and not before the error says it makes sense.
    """
    if error.kind in LIMITED:
        if provider_failures >= MAX_PROVIDER_FAILURES:
            return None
    elif error.kind not in PATIENT:
        return None
    longest = min(MAX_PAUSE_S, FIRST_PAUSE_S * float(2 ** min(max(0, tries - 1), 10)))
    wanted = min(MAX_PAUSE_S, error.retry_after_s or 0.0)
    return max(longest * (0.5 + draw / 2), wanted)


def is_failure(error: WireError) -> bool:
    """Whether it counts against the chances of a line."""
    return error.kind in LIMITED
