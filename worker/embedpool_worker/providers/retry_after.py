"""How long a provider asks us to wait, in every spelling seen. Pure."""

from __future__ import annotations

import math
import re
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_WAIT_S: Final = 86_400.0
"""Longer waits are taken for a day: a typo upstream must not rest a key for ever."""

_UNITS_S: Final = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|[dhms])")
_DURATION: Final = re.compile(rf"(?:{_PART.pattern})+")


def duration_s(text: str) -> float | None:
    """Read a duration such as `12ms`, `6m0s` or `1.5`; None where it is not one."""
    text = text.strip()
    if _DURATION.fullmatch(text):
        return sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(text))
    return _number(text)


def retry_after_s(headers: Mapping[str, str], *, now_unix_s: float) -> float | None:
    """Seconds until the provider wants to hear from us again, None where it does not say.

    `headers` have lower-case names. `retry-after-ms` is the finer one and wins; `retry-after` may
    be whole or broken seconds, a duration, or an HTTP date (the only use of the wall clock).
    """
    wait_ms = _number(headers.get("retry-after-ms", ""))
    if wait_ms is not None:
        return _bounded(wait_ms / 1_000)
    given = headers.get("retry-after", "")
    wait_s = duration_s(given)
    if wait_s is None:
        wait_s = _until(given, now_unix_s)
    return None if wait_s is None else _bounded(wait_s)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _until(date: str, now_unix_s: float) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() - now_unix_s
    except (ValueError, TypeError, OverflowError):
        return None


def _bounded(wait_s: float) -> float:
    return min(max(wait_s, 0.0), MAX_WAIT_S)
