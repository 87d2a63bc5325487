"""The rows that have been read and not yet written, and which texts among them are the same. Pure.

Invariants
- Rows leave in the order they came, each once.
- While a text is in the window it has one item, however many rows have it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from embedpool_cli.embed.rows import Block, Done, Fault, Item, Vector
from embedpool_shared.vectors import FLOAT_BYTES

ROW_BYTES: Final = 300
"""What a row costs beside its text and its vector."""
USUAL_DIMS: Final = 1_536


@dataclass(slots=True, eq=False)
class _Entry:
    """A block in the window."""

    block: Block
    items: list[Item]
    size_bytes: int
    unfinished: int = 0  # distinct items
    taken: int = 0  # rows that have left already


@dataclass(slots=True, eq=False)
class _Holders:
    """A text's item, and the blocks it is in."""

    item: Item
    entries: list[_Entry]


class Window:
    """At most so many rows and bytes, unless a single block is larger."""

    def __init__(self, *, max_rows: int, max_bytes: int) -> None:
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._entries: deque[_Entry] = deque()
        self._known: dict[str, _Holders] = {}
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
        entry = _Entry(block, [], _size_bytes(block))
        fresh: list[Item] = []
        for position, text in enumerate(block.texts):
            fault = block.faults.get(position)
            if fault is not None:
                entry.items.append(Item(text, fault=fault))
                continue
            holders = self._known.get(text)
            if holders is None:
                holders = self._known[text] = _Holders(Item(text), [])
                fresh.append(holders.item)
            self._hold(holders, entry)
        self._entries.append(entry)
        self._rows += len(block)
        self._text_bytes += entry.size_bytes
        return fresh

    def end(self, item: Item, outcome: Vector | Fault) -> None:
        """Note an item's vector, or why it has none."""
        if isinstance(outcome, Fault):
            item.fault = outcome
        else:
            item.vector = outcome
        for entry in self._known[item.text].entries:
            entry.unfinished -= 1

    @property
    def has_finished(self) -> bool:
        """Whether the block in front is done."""
        return bool(self._entries) and not self._entries[0].unfinished

    def take_finished(self) -> list[Done]:
        """Let every finished block in front of the first unfinished one leave."""
        done = []
        while self._entries and not self._entries[0].unfinished:
            entry = self._entries.popleft()
            done.append(self._leave(entry, len(entry.items)))
        return [part for part in done if part.items]

    def take_rest(self) -> list[Done]:
        """Let all leave that is before the first unfinished row."""
        done = self.take_finished()
        if self._entries:
            entry = self._entries[0]
            ended = next(i for i, item in enumerate(entry.items) if not item.is_done)
            done.append(self._leave(entry, max(ended, entry.taken), is_whole=False))
        return [part for part in done if part.items]

    def _hold(self, holders: _Holders, entry: _Entry) -> None:
        entry.items.append(holders.item)
        if holders.entries and holders.entries[-1] is entry:
            return
        holders.entries.append(entry)
        entry.unfinished += not holders.item.is_done

    def _leave(self, entry: _Entry, stop: int, *, is_whole: bool = True) -> Done:
        start, entry.taken = entry.taken, stop
        self._rows -= stop - start
        if is_whole:
            self._text_bytes -= entry.size_bytes
            self._forget(entry)
        return Done(entry.block, start, entry.items[start:stop])

    def _forget(self, entry: _Entry) -> None:
        for text in {item.text for item in entry.items}:
            holders = self._known.get(text)
            if holders is None:
                continue
            # Blocks leave in the order they came, so this one is the first of each of its texts'.
            del holders.entries[0]
            if not holders.entries:
                del self._known[text]


def _size_bytes(block: Block) -> int:
    return sum(map(len, block.texts))


def _row_bytes(dims: int) -> int:
    return ROW_BYTES + FLOAT_BYTES * dims
