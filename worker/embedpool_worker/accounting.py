"""Who used how many tokens of a call, and who pays for them. Pure.

Over every call: used + waste = paid + saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

FENCED: Final = "fenced"
"""The reason of a record of tokens paid twice: nobody's ending, booked beside the real one."""


class ItemTokens(NamedTuple):
    """What one item of a call used, and its share of what the provider reported."""

    used: int
    paid: int


def shares(total: int, weights: Sequence[int]) -> list[int]:
    """Split `total` in proportion to `weights`, exactly (largest remainder; ties go first)."""
    if len(weights) == 1:
        return [total]
    whole = sum(weights)
    if not whole:
        weights, whole = [1] * len(weights), len(weights)
    floors = [total * weight // whole for weight in weights]
    by_remainder = sorted(
        range(len(weights)), key=lambda i: total * weights[i] % whole, reverse=True
    )
    for index in by_remainder[: total - sum(floors)]:
        floors[index] += 1
    return floors


def item_tokens(
    *,
    total_tokens: int | None,
    exact: Sequence[int] | None,
    sizes: Sequence[int],
    where: Sequence[int],
) -> list[ItemTokens]:
    """Count each item of a call whose distinct inputs have the sizes `sizes` (bytes).

    `where[i]` is item i's place among the distinct inputs; the first item with a place pays for it,
    a duplicate uses as much and pays nothing. `exact` is a count per distinct input, by the model's
    tokenizer; without it the provider's total is shared by size, and without that a token is taken
    to be four bytes.
    """
    if total_tokens is None:
        total_tokens = sum(exact) if exact else sum(max(1, -(-size // 4)) for size in sizes)
    paid = shares(total_tokens, exact or sizes)
    used = exact or paid
    seen: set[int] = set()
    counted = []
    for place in where:
        counted.append(ItemTokens(used[place], 0 if place in seen else paid[place]))
        seen.add(place)
    return counted


def cached_share(used: int, *, counted: int, cached: int) -> int:
    """Say how much of `used` came from the cache, where `cached` of our own `counted` tokens did.

    The two counts differ where the api's own is returned: all of it is cached when everything was.
    """
    return used * cached // counted if counted else 0


def saved_and_wasted(used: int, paid: int) -> tuple[int, int]:
    """Balance a job's columns: what it used without paying, or paid without using."""
    return max(0, used - paid), max(0, paid - used)
