"""Rows on their way: as they are read, why one fails, and what becomes of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from embedpool_cli.embed.columns import Kind

Vector = bytes | memoryview
"""Little-endian float32."""

ID: Final = "id"
VECTOR: Final = "embedding"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a row has no vector."""

    reason: str
    status: int | None = None  # of the pool's answer, where it was asked
    code: str | None = None


EMPTY: Final = Fault("the text is empty")
NULL: Final = Fault("the text is null")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Some rows as they were read, in order, side by side."""

    first_row: int  # counted from 0 over all inputs
    source: str
    places: Sequence[int]  # in the source: the line, or the row of a Parquet file, from 1
    texts: Sequence[str]
    faults: Mapping[int, Fault]  # by position in the block; its text is nothing
    carried: Any  # an Arrow record batch: the id, then what else is carried
    kinds: tuple[Kind, ...]  # what was seen in each column of `carried`; empty where it is typed
    source_share: float = 0.0  # how much of all inputs had been read by then

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(slots=True, eq=False)
class Item:
    """One distinct text of a window; it ends with a vector or with a fault."""

    text: str = field(repr=False)
    vector: Vector | None = field(default=None, repr=False)
    fault: Fault | None = None
    last_block: int = -1  # of those in the window that have it, by their order

    @property
    def is_done(self) -> bool:
        """Whether it has ended."""
        return self.vector is not None or self.fault is not None


@dataclass(frozen=True, slots=True)
class Done:
    """Rows of one block, from `start`, whose items have all ended."""

    block: Block
    start: int
    items: Sequence[Item]
