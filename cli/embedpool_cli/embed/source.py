"""All inputs as one row of blocks, in order, and how far the reading is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from embedpool_cli.embed.blocks import Gathering
from embedpool_cli.embed.lines import Broken, Stream
from embedpool_cli.embed.order import Fields, Input, InputFormat, Order
from embedpool_cli.embed.read_csv import read_csv
from embedpool_cli.embed.read_jsonl import read_jsonl
from embedpool_cli.embed.read_parquet import ParquetInput
from embedpool_cli.embed.read_text import read_text
from embedpool_cli.embed.rows import Block

Reader = Callable[[Stream, Gathering, int], Iterator[int]]
READERS: Final[Mapping[InputFormat, Reader]] = {
    InputFormat.JSONL: read_jsonl,
    InputFormat.CSV: read_csv,
    InputFormat.TEXT: read_text,
}


@dataclass(slots=True)
class Source:
    """The inputs of one order; `typed_schema` is what Parquet says of the carried columns."""

    inputs: tuple[Input, ...]
    fields: Fields
    typed_schema: Any
    sizes_bytes: tuple[int | None, ...]
    _rows_before: int = 0

    @property
    def knows_its_size(self) -> bool:
        """Whether a share of it can be told."""
        return None not in self.sizes_bytes

    def blocks(self, *, skip: int) -> Iterator[Block]:
        """Read every row but the first `skip`; raises `Broken` and `OSError`."""
        self._rows_before = 0
        for number, source in enumerate(self.inputs):
            skip_here = max(0, skip - self._rows_before)
            reader = self._parquet if source.format is InputFormat.PARQUET else self._lines
            for block in reader(source, skip_here, number):
                yield block

    def _parquet(self, source: Input, skip: int, number: int) -> Iterator[Block]:
        file = ParquetInput(source.path, self.fields)
        try:
            if skip < file.rows:
                for block in file.blocks(self._rows_before, skip):
                    yield replace(block, source_share=self._share(number, block.source_share))
            self._rows_before += file.rows
        finally:
            file.close()

    def _lines(self, source: Input, skip: int, number: int) -> Iterator[Block]:
        stream = Stream(source)
        gathering = Gathering(self.fields, source.path, self._rows_before)
        size = self.sizes_bytes[number] or 0
        skipped = _Skip(skip)
        try:
            for _ in skipped.then(READERS[source.format], stream, gathering):
                if gathering.is_full:
                    yield gathering.block(self._share(number, stream.consumed_bytes / max(1, size)))
            yield from gathering.rest(self._share(number + 1, 0.0))
            self._rows_before = gathering.row
        finally:
            stream.close()

    def _share(self, number: int, of_this: float) -> float:
        sizes = [size or 0 for size in self.sizes_bytes]
        here = sizes[number] * of_this if number < len(sizes) else 0.0
        return (sum(sizes[:number]) + here) / max(1, sum(sizes))
