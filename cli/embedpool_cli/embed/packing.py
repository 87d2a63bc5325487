"""Which texts share a request. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from embedpool_cli.embed.rows import Item


class Packer:
    """Cuts a stream of items into requests of at most so many items and bytes."""

    def __init__(self, *, max_items: int, max_bytes: int) -> None:
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._waiting: list[Item] = []
        self._bytes = 0

    def add(self, items: Iterable[Item]) -> Iterator[list[Item]]:
        """Take items in; yield the requests that are full. A longer text travels alone."""
        for item in items:
            size = size_bytes(item.text)
            if self._waiting and self._bytes + size > self._max_bytes:
                yield self._packed()
            self._waiting.append(item)
            self._bytes += size
            if len(self._waiting) == self._max_items:
                yield self._packed()

    def rest(self) -> Iterator[list[Item]]:
        """Yield what waits for company, if anything."""
        if self._waiting:
            yield self._packed()

    def _packed(self) -> list[Item]:
        packed, self._waiting, self._bytes = self._waiting, [], 0
        return packed


def smaller(items: Sequence[Item], suspect: int | None) -> tuple[Sequence[Item], Sequence[Item]]:
    """Split a refused request: the input the refusal names alone, else two halves."""
    if suspect is not None and suspect < len(items):
        return [items[suspect]], [*items[:suspect], *items[suspect + 1 :]]
    middle = len(items) // 2
    return items[:middle], items[middle:]


def size_bytes(text: str) -> int:
    """Measure a text in bytes of UTF-8."""
    return len(text) if text.isascii() else len(text.encode())
