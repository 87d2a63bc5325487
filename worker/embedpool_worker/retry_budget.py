"""How many second tries a process may make: a share of the first ones and a few a second. Pure.

When everything fails, repeating it all would multiply the load exactly when the provider has least
room for it. A switch from a key that now rests is no second try and is not counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SHARE: Final = 0.2
"""Second tries for each first one."""
PER_S: Final = 10.0
"""… and so many a second besides."""
MOST_SAVED: Final = 10.0
"""Of the latter, one quiet second's worth is kept."""
MOST_EARNED: Final = 100.0
"""Of the former, so many are kept."""


@dataclass(slots=True)
class RetryBudget:
    """Two small stores: one fills with time, the other with first tries."""

    saved: float = MOST_SAVED
    earned: float = 0.0
    saved_at: float = 0.0

    def first_try(self) -> None:
        """Earn a share of a second try."""
        self.earned = min(MOST_EARNED, self.earned + SHARE)

    def allows_another(self, now: float) -> bool:
        """Spend one second try, if there is one."""
        self.saved = min(MOST_SAVED, self.saved + PER_S * max(0.0, now - self.saved_at))
        self.saved_at = max(self.saved_at, now)
        if self.earned >= 1.0:
            self.earned -= 1.0
            return True
        if self.saved >= 1.0:
            self.saved -= 1.0
            return True
        return False
