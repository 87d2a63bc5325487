"""What LiteLLM's words for spans of time mean, for keys that expire and budgets that return. Pure.

A calendar month is not a number of seconds, so it keeps a name of its own.
"""

from __future__ import annotations

import calendar
import math
import re
from datetime import UTC, datetime, timedelta
from typing import Final

from embedpool_shared.accounts import MONTHLY
from embedpool_shared.errors import BadRequest

SECONDS_OF: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
WORDS: Final = {"hourly": "1h", "daily": "1d", "weekly": "1w", "monthly": "1mo"}
FOR_EVER: Final = "-1"
"""LiteLLM's `duration` of a key that shall not expire any more."""
MAX_S: Final = 100 * 366 * 86_400
_span = re.compile(r"(\d{1,10})(mo|[smhdw])", re.ASCII).fullmatch


def budget_every(text: str) -> str:
    """Say how often a budget begins anew: seconds as digits, or `MONTHLY`; raises `BadRequest`."""
    count, unit = _read(text, "budget_duration")
    if unit != "mo":
        return str(count * SECONDS_OF[unit])
    if count != 1:
        raise BadRequest(
            f"budget_duration {text!r}: of months only '1mo' is kept; or give days, like '90d'",
            param="budget_duration",
        )
    return MONTHLY


def budget_duration(every: str | None) -> str | None:
    """Say the same in LiteLLM's words, in the largest unit that fits."""
    if every is None or every == MONTHLY:
        return "1mo" if every else None
    seconds = int(every)
    unit = next(unit for unit in "dhms" if seconds % SECONDS_OF[unit] == 0)
    return f"{seconds // SECONDS_OF[unit]}{unit}"


def expires_at(text: str, *, now_s: float) -> float | None:
    """Say when a key that is good for so long from now on ends; None is never."""
    if text.strip() == FOR_EVER:
        return None
    count, unit = _read(text, "duration")
    if unit != "mo":
        return now_s + count * SECONDS_OF[unit]
    start = datetime.fromtimestamp(now_s, UTC)
    months = start.year * 12 + start.month - 1 + count
    year, month = divmod(months, 12)
    last_day = calendar.monthrange(year, month + 1)[1]
    return start.replace(year=year, month=month + 1, day=min(start.day, last_day)).timestamp()


def next_reset(every: str, reset_at: int, *, now_s: float) -> int:
    """Say when the period ends that is running at `now_s`, if an earlier one ended at `reset_at`.

    In Redis that is noticed only when there is something to count.
    """
    if now_s < reset_at:
        return reset_at
    if every == MONTHLY:
        first = datetime.fromtimestamp(now_s, UTC).replace(
            day=1, hour=0, minute=0, second=0, microsecond=0
        )
        return int((first + timedelta(days=32)).replace(day=1).timestamp())
    step_s = int(every)
    return reset_at + (math.floor((now_s - reset_at) / step_s) + 1) * step_s


def _read(text: str, param: str) -> tuple[int, str]:
    word = text.strip().lower()
    found = _span(WORDS.get(word, word))
    if found is None:
        raise BadRequest(
            f"{param} {text[:40]!r} is no span of time; give one like '30s', '30m', '24h', '30d', "
            "'4w' or '1mo'",
            param=param,
        )
    count, unit = int(found[1]), found[2]
    if not 1 <= count * SECONDS_OF.get(unit, 31 * 86_400) <= MAX_S:
        raise BadRequest(f"{param} {text[:40]!r} should be within 1s and 100 years", param=param)
    return count, unit
