"""The rows that have been read and not yet written, and which texts among them are the same. Pure.

Invariants
- Rows leave in the order they came, each once.
- While a text is in the window it has one item, however many rows have it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from embedpool_cli.embed.rows import Block, Done, Item
from embedpool_shared.vectors import FLOAT_BYTES

ROW_BYTES: Final = 300
"""What a row costs beside its text and its vector."""
USUAL_DIMS: Final = 1_536


@dataclass(slots=True, eq=False)
class _Entry:
    """A block in the window."""

    block: Block
    number: int
    items: list[Item]
    size_bytes: int
    taken: int = 0  # rows that have left already
    ended: int = 0  # rows before the first that was unfinished when this was asked last

    @property
    def is_finished(self) -> bool:
        items, ended = self.items, self.ended
        while ended < len(items) and items[ended].is_done:
            ended += 1
        self.ended = ended
        return ended == len(items)


class Window:
    """At most so many rows and bytes, unless a single block is larger."""

    def __init__(self, *, max_rows: int, max_bytes: int) -> None:
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._entries: deque[_Entry] = deque()
        self._known: dict[str, Item] = {}
        self._blocks = 0
        self._rows = 0
        self._text_bytes = 0
        self._row_bytes = _row_bytes(USUAL_DIMS)

    @property
    def rows(self) -> int:
        """How many rows are in it."""
        return self._rows

    def has_room_for(self, block: Block) -> bool:
        """Say whether `block` fits; an empty window takes any."""
        rows = self._rows + len(block)
        text_bytes = self._text_bytes + _size_bytes(block)
        fits = rows <= self._max_rows and text_bytes + rows * self._row_bytes <= self._max_bytes
        return not self._entries or fits

    def expect_vectors(self, dims: int) -> None:
        """Reckon with vectors of that length."""
        self._row_bytes = _row_bytes(dims)

    def add(self, block: Block) -> list[Item]:
        """Take rows in; return the items that are new and have to be embedded, in order."""
        self._blocks += 1
        entry = _Entry(block, self._blocks, [], _size_bytes(block))
        fresh: list[Item] = []
        for position, text in enumerate(block.texts):
            fault = block.faults.get(position)
            if fault is not None:
                entry.items.append(Item(text, fault=fault))
                continue
            item = self._known.get(text)
            if item is None:
                item = self._known[text] = Item(text)
                fresh.append(item)
            item.last_block = self._blocks
            entry.items.append(item)
        self._entries.append(entry)
        self._rows += len(block)
        self._text_bytes += entry.size_bytes
        return fresh

    @property
    def has_finished(self) -> bool:
        """Whether the block in front is done."""
        return bool(self._entries) and self._entries[0].is_finished

    def take_finished(self) -> list[Done]:
        """Let every finished block in front of the first unfinished one leave."""
        done = []
        while self.has_finished:
            entry = self._entries.popleft()
            done.append(self._leave(entry, len(entry.items)))
        return [part for part in done if part.items]

    def take_rest(self) -> list[Done]:
        """Let all leave that is before the first unfinished row."""
        done = self.take_finished()
        if self._entries:
            entry = self._entries[0]
            done.append(self._leave(entry, max(entry.ended, entry.taken), is_whole=False))
        return [part for part in done if part.items]

    def _leave(self, entry: _Entry, stop: int, *, is_whole: bool = True) -> Done:
        start, entry.taken = entry.taken, stop
        self._rows -= stop - start
        if is_whole:
            self._text_bytes -= entry.size_bytes
            self._forget(entry)
        return Done(entry.block, start, entry.items[start:stop])

    def _forget(self, entry: _Entry) -> None:
        for item in entry.items:
            if item.last_block == entry.number:
                self._known.pop(item.text, None)


def _size_bytes(block: Block) -> int:
    return sum(map(len, block.texts))


def _row_bytes(dims: int) -> int:
    return ROW_BYTES + FLOAT_BYTES * dims
