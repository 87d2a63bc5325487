"""When a key that keeps failing is left alone, and when it is tried again. Pure.

States: *closed* (calls go through) · *open* until an instant (none do) · *half-open* (one at a time
may find out). Failures in a row open it, `failed`; any success closes it, `succeeded`; time alone
makes an open one half-open, and a failure then opens it again.

Before it opens, one failure makes the key *doubted* for as long as an open breaker rests, or as the
provider asks: it is passed over while another key is usable, so the next request does not pay for
the same failure.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Breaker:
    """Counts one key's failures in a row: 5xx, timeouts, broken connections."""

    allowed_fails: int = 3
    rest_s: float = 5.0
    fails: int = 0
    open_until_at: float = 0.0
    doubted_until_at: float = 0.0

    def failed(self, now: float, *, back_at: float | None = None) -> bool:
        """Count a failure; tell whether it opened the breaker. The provider may say until when."""
        self.fails += 1
        self.doubted_until_at = now + self.rest_s if back_at is None else back_at
        # Calls that were under way when it opened say nothing new.
        if not self.has_tripped or self.is_open(now):
            return False
        self.open_until_at = now + self.rest_s
        return True

    def succeeded(self) -> None:
        """Close."""
        self.fails = 0
        self.open_until_at = self.doubted_until_at = 0.0

    @property
    def has_tripped(self) -> bool:
        """Whether the next failure (or the last one) opens it: open now, or half-open."""
        return self.fails > 0 and self.fails >= self.allowed_fails

    def is_open(self, now: float) -> bool:
        """Tell whether nothing may be sent."""
        return now < self.open_until_at

    def is_doubted(self, now: float) -> bool:
        """Tell whether another key should be preferred."""
        return now < self.doubted_until_at
