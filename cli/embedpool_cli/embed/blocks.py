"""Gathers rows of JSON values into blocks; what a row lacks becomes its fault, not the run's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from embedpool_cli.embed.columns import Kind, kind_of
from embedpool_cli.embed.order import Fields
from embedpool_cli.embed.rows import EMPTY, Block, Fault

MAX_BLOCK_ROWS: Final = 1_024
MAX_BLOCK_CHARS: Final = 1 << 20

Values = Sequence[str | None]
"""Of one row, as JSON: what is carried beside the id, which may be None for the row's number."""


@dataclass(slots=True)
class Gathering:
    """A block in the making."""

    fields: Fields
    source: str
    row: int  # the next one's number
    skip: int = 0  # rows that an earlier start has dealt with
    _texts: list[str] = field(default_factory=list)
    _faults: dict[int, Fault] = field(default_factory=dict)
    _places: list[int] = field(default_factory=list)
    _columns: list[list[str | None]] = field(default_factory=list)
    _kinds: list[Kind] = field(default_factory=list)
    _chars: int = 0

    def __post_init__(self) -> None:
        self._begin()

    @property
    def is_full(self) -> bool:
        """Whether it is time for the next block."""
        return len(self._texts) >= MAX_BLOCK_ROWS or self._chars >= MAX_BLOCK_CHARS

    def passes_over(self) -> bool:
        """Count the next row without taking it, if it is one that is to be skipped."""
        if not self.skip:
            return False
        self.skip -= 1
        self.row += 1
        return True

    def add(self, place: int, text: str, values: Values) -> None:
        """Take a row; `values` are those of the fields' `carried`, the id first."""
        if not text:
            self.reject(place, EMPTY, values)
            return
        if self.fields.id is not None and values[0] in {None, "null"}:
            self.reject(place, Fault(f"the row has no {self.fields.id}"), values)
            return
        self._append(place, text, values)

    def reject(self, place: int, fault: Fault, values: Values | None = None) -> None:
        """Take a row that cannot be embedded."""
        self._faults[len(self._texts)] = fault
        self._append(place, "", values or [None] * len(self._columns))

    def block(self, source_share: float) -> Block:
        """Return what has been gathered, and begin anew."""
        names = self.fields.column_names
        columns = [pa.array(column, pa.string()) for column in self._columns]
        block = Block(
            first_row=self.row - len(self._texts),
            source=self.source,
            places=self._places,
            texts=self._texts,
            faults=self._faults,
            carried=pa.record_batch(columns, names=list(names)),
            kinds=tuple(self._kinds),
            source_share=source_share,
        )
        self._begin()
        return block

    def rest(self, source_share: float) -> Iterator[Block]:
        """Yield the last block, if there is anything in it."""
        if self._texts:
            yield self.block(source_share)

    def _begin(self) -> None:
        width = len(self.fields.column_names)
        self._texts, self._faults, self._places, self._chars = [], {}, [], 0
        self._columns = [[] for _ in range(width)]
        self._kinds = [Kind.NULL] * width

    def _append(self, place: int, text: str, values: Values) -> None:
        self._texts.append(text)
        self._places.append(place)
        self._chars += len(text)
        self._keep(0, str(self.row) if self.fields.id is None else values[0])
        for number, value in enumerate(values[1:], 1):
            self._keep(number, value)
        self.row += 1

    def _keep(self, number: int, value: str | None) -> None:
        if value is None or value == "null":
            self._columns[number].append(None)
            return
        self._columns[number].append(value)
        kind = kind_of(value)
        # Nearly always it is the same again, and joining flags is slow.
        if kind is not self._kinds[number]:
            self._kinds[number] |= kind


def as_arrow(numbers: Sequence[int]) -> Any:
    """Make a column of row numbers."""
    return pa.array(numbers, pa.int64())
