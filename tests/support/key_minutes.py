"""What a key's minute holds at the fake provider, and what held of it when all is over. Pure."""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

MINUTE_S: Final = 60.0


class KeyMinutes:
    """The calls let in of each key in the last minute; a refused one does not count."""

    def __init__(self) -> None:
        self._let_in: defaultdict[str | None, deque[tuple[float, int]]] = defaultdict(deque)

    def wait_s(
        self, key: str | None, tokens: int, *, rpm: int | None, tpm: int | None, now: float
    ) -> float:
        """Let a call in, which is 0.0; or say how long until there is room for it."""
        minute = self._let_in[key]
        while minute and minute[0][0] <= now - MINUTE_S:
            minute.popleft()
        requests_left = len(minute) + 1
        tokens_left = sum(size for _, size in minute) + tokens
        wait_s = 0.0
        for at, size in minute:
            if _fits(requests_left, rpm) and _fits(tokens_left, tpm):
                break
            requests_left, tokens_left = requests_left - 1, tokens_left - size
            wait_s = at + MINUTE_S - now
        if not wait_s:
            minute.append((now, tokens))
        return wait_s


def _fits(wanted: int, limit: int | None) -> bool:
    return limit is None or wanted <= limit


def fullest_minute(calls: Iterable[tuple[float, int]]) -> tuple[int, int]:
    """The most calls and the most tokens that any sliding minute of these saw."""
    ordered = sorted(calls)
    most_calls = most_tokens = start = tokens = 0
    for end, (at, size) in enumerate(ordered):
        tokens += size
        while ordered[start][0] <= at - MINUTE_S:
            tokens -= ordered[start][1]
            start += 1
        most_calls, most_tokens = max(most_calls, end - start + 1), max(most_tokens, tokens)
    return most_calls, most_tokens
