"""Columns for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Align the cells of each column; a row's last cell may be as long as it likes."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def printable(text: str) -> str:
    """Replace what would move the cursor or change colours by what it is called in Python."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
