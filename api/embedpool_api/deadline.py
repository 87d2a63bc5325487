"""How long an answer is worth having. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

HINTS: Final = (b"x-stainless-read-timeout", b"x-litellm-timeout")
"""Where clients say, in seconds, when they will hang up."""
HEAD_START_S: Final = 0.25


def budget_s(
    headers: Mapping[bytes, bytes], default_s: float, *, asked_s: float | None = None
) -> float:
    """Take the smallest of the default, the body's `timeout` and the hints, less a head start.

    The head start, 250 ms or a quarter, lets the answer arrive before the client hangs up. What
    is no positive number is no hint.
    """
    shortest_s = default_s if asked_s is None else min(default_s, asked_s)
    for hint in HINTS:
        value = headers.get(hint)
        if value is not None:
            shortest_s = min(shortest_s, _seconds(value))
    return shortest_s - min(HEAD_START_S, shortest_s / 4)


def _seconds(value: bytes) -> float:
    try:
        seconds = float(value)
    except ValueError:
        return math.inf
    return seconds if seconds > 0 else math.inf  # NaN is not above zero either
