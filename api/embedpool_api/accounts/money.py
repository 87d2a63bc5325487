"""Dollars at the edge, whole pico-dollars behind it. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from embedpool_shared.accounts import PICO_PER_USD

MAX_USD: Final = 9_000_000.0
"""In pico-dollars what a counter of Redis can just hold."""


def pico_usd(dollars: float) -> int:
    """Convert by the shortest decimal that reads back as this float: 0.1 is exactly a tenth."""
    return int((Decimal(str(dollars)) * PICO_PER_USD).to_integral_value())


def in_dollars(pico: int) -> float:
    """Convert to the nearest float."""
    return pico / PICO_PER_USD
