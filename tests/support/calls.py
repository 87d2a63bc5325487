"""What a fake provider remembers of its calls: all of them as sums, the newest as they were."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from support.vectors import Input


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP call, as it arrived and what it was answered."""

    at: float  # time.monotonic()
    path: str  # with the query, if there was one
    key: str | None
    headers: Mapping[str, str]
    model: str
    items: list[Input]
    tokens: int
    fields: dict[str, Any]  # the body without its inputs
    status: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over all calls since the last reset."""

    calls: int
    items: int
    tokens: int
    largest_call_items: int
    by_status: dict[int, int]
    by_key: dict[str, int]


class CallLog:
    """Totals, and the newest `keep` calls; written by the server, read by any thread."""

    def __init__(self, *, keep: int) -> None:
        self._lock = threading.Lock()
        self.keeps_calls = keep > 0
        self._calls: deque[Call] = deque(maxlen=keep)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        with self._lock:
            self._calls.clear()
            self._items = self._tokens = self._largest = 0
            self._by_status: Counter[int] = Counter()
            self._by_key: Counter[str] = Counter()

    def count(self, *, items: int, tokens: int, status: int, key: str | None) -> None:
        """Add one call to the totals."""
        with self._lock:
            self._items += items
            self._tokens += tokens
            self._largest = max(self._largest, items)
            self._by_status[status] += 1
            self._by_key[key or ""] += 1

    def remember(self, call: Call) -> None:
        """Keep one call, in place of the oldest when there are too many."""
        with self._lock:
            self._calls.append(call)

    def calls(self) -> list[Call]:
        """Copy the calls kept, oldest first."""
        with self._lock:
            return list(self._calls)

    def totals(self) -> Totals:
        """Read all sums at one moment."""
        with self._lock:
            return Totals(
                calls=self._by_status.total(),
                items=self._items,
                tokens=self._tokens,
                largest_call_items=self._largest,
                by_status=dict(self._by_status),
                by_key=dict(self._by_key),
            )
