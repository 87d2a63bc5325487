"""Translates Redis' time into this loop's, so that two hosts' clocks are never compared. Pure."""

from __future__ import annotations


class RedisClock:
    """The offset between Redis' clock and the loop's, learned from replies.

    A reply was written before it arrived, so `received − written` overestimates the offset by the
    way back; the smallest one seen lately is the best.
    """

    __slots__ = ("_learned_at", "_offset_s")

    MAX_AGE_S = 60.0

    def __init__(self) -> None:
        """Know nothing yet."""
        self._offset_s: float | None = None
        self._learned_at = 0.0

    def learn(self, redis_us: int, *, now: float) -> None:
        """Take in a Redis time that just arrived."""
        offset_s = now - redis_us / 1e6
        is_old = now - self._learned_at > self.MAX_AGE_S
        if self._offset_s is None or is_old or offset_s < self._offset_s:
            self._offset_s, self._learned_at = offset_s, now

    def instant(self, redis_us: int, *, now: float) -> float:
        """Convert a Redis time into an instant of the loop's clock, never one in the future."""
        if self._offset_s is None:
            self.learn(redis_us, now=now)
        return min(now, redis_us / 1e6 + (self._offset_s or 0.0))
