"""What has been spent, and whether one more request may be. Pure; money is integer pico-dollars."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final

PICO: Final = 10**12
BYTES_PER_TOKEN: Final = 3
"""A guess that is rather too high a price than too low."""


@dataclass(slots=True)
class Budget:
    """Spent and reserved money of one run; `most_pico_usd` None is no bound."""

    most_pico_usd: int | None
    price_per_token_pico_usd: float | None  # None: nobody knows before the first answer
    spent_pico_usd: int = 0
    reserved_pico_usd: int = 0
    tokens: int = 0
    _under_way: int = 0
    _dearest_per_byte: float = 0.0

    def has_room_for(self, size_bytes: int) -> bool:
        """Say whether a request can be paid whatever those under way will cost.

        The first goes alone: it tells how many tokens these texts are.
        """
        if self.most_pico_usd is None:
            return True
        if not self.tokens and self._under_way:
            return False
        return self.spent_pico_usd + self.reserved_pico_usd + self.price(size_bytes) <= (
            self.most_pico_usd
        )

    def reserve(self, size_bytes: int) -> int:
        """Set the price of a request aside; return it for `settle`."""
        reserved = self.price(size_bytes)
        self.reserved_pico_usd += reserved
        self._under_way += 1
        return reserved

    def settle(self, reserved_pico_usd: int) -> None:
        """Give back what was set aside for a request that has ended."""
        self.reserved_pico_usd -= reserved_pico_usd
        self._under_way -= 1

    def pay(self, size_bytes: int, *, tokens: int, pico_usd: int) -> None:
        """Note what an answer cost."""
        self.tokens += tokens
        self.spent_pico_usd += pico_usd
        self._dearest_per_byte = max(self._dearest_per_byte, pico_usd / max(1, size_bytes))
        if self.price_per_token_pico_usd is None:
            self.price_per_token_pico_usd = pico_usd / max(1, tokens)

    def price(self, size_bytes: int) -> int:
        """Estimate a request, rather too high than too low."""
        return int(size_bytes * (self._per_byte or 0.0)) + 1 if self._per_byte else 0

    @property
    def _per_byte(self) -> float | None:
        if self.price_per_token_pico_usd is None:
            return None
        return max(self._dearest_per_byte, self.price_per_token_pico_usd / BYTES_PER_TOKEN)


def pico_usd(text: str) -> int:
    """Read dollars as the pool writes them in a header; what is no amount is nothing."""
    try:
        dollars = Decimal(text)
    except InvalidOperation:
        return 0
    return int(dollars * PICO) if dollars.is_finite() and dollars > 0 else 0


def dollars(amount_pico_usd: int) -> str:
    """Write money for people: cents, and more digits where it is less than one."""
    amount = amount_pico_usd / PICO
    return f"${amount:,.2f}" if amount >= 0.1 or not amount else f"${amount:.6f}"
