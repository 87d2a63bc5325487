"""How long keys rest: the operator's choice, and what is fixed. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SHORTEST_REST_S: Final = 0.1
"""After a 429, whatever it says: a provider is never hammered."""
QUOTA_REST_S: Final = 300.0
RETIRED_FOR_S: Final = 600.0
"""Then one call of one worker finds out whether a rejected key was repaired."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPolicy:
    """What the configuration says about keys."""

    cooldown_s: float = 5.0
    """How long a key rests when the provider does not say, or when it kept failing."""
    allowed_fails: int = 3
    """Failures in a row before it rests."""
