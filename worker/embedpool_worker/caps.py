"""How much a provider takes in one call. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """Four independent limits of one call; None is no limit of its own."""

    max_items: int
    max_item_tokens: int
    """An item above it travels alone; whether the provider wants it is the provider's to say."""
    max_call_tokens: int | None = None
    max_call_bytes: int | None = None
