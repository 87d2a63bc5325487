"""Counts what a run would be: rows, texts that fail before they are sent, tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from embedpool_cli.embed.budget import dollars
from embedpool_cli.embed.pool_facts import Facts
from embedpool_cli.embed.source import Source
from embedpool_shared import tokens

ENCODING: Final = "cl100k_base"


@dataclass(slots=True)
class Count:
    """What was counted."""

    rows: int = 0
    unfit: int = 0
    tokens: int = 0


def counted(source: Source) -> Count:
    """Read every row and count it; raises `Broken` and `OSError`."""
    count = Count()
    for block in source.blocks():
        count.rows += len(block)
        count.unfit += len(block.faults)
        count.tokens += sum(tokens.count_all(ENCODING, filter(None, block.texts)))
    return count


def said(count: Count, facts: Facts | None) -> str:
    """Put a count and its price into words."""
    price = facts.price_per_token_pico_usd if facts is not None else None
    if price is not None:
        cost = f"{dollars(round(price * count.tokens))} with {facts.model if facts else ''}"
    elif facts is not None:
        cost = f"no price is known for {facts.model}"
    else:
        cost = "the price is the pool's to tell, and it was not reached"
    return (
        f"{count.rows:,} rows, {count.unfit:,} of them cannot be embedded · "
        f"{count.tokens:,} tokens as {ENCODING} counts · {cost}"
    )
