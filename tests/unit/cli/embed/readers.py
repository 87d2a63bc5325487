"""Reads files as a run does, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from embedpool_cli.arguments import parsed
from embedpool_cli.embed.order import Order, order_of
from embedpool_cli.embed.rows import Block
from embedpool_cli.embed.source import source_of


def order(*arguments: str | Path) -> Order:
    """Understand a command line."""
    return order_of(parsed(["embed", *map(str, arguments)], {}, version=lambda: "1"))


def blocks(*arguments: str | Path, skip: int = 0) -> list[Block]:
    """Read every block of the inputs but the first rows."""
    return list(source_of(order(*arguments, "--dry-run")).blocks(skip=skip))


def rows(*arguments: str | Path, skip: int = 0) -> list[tuple[int, Any, str]]:
    """Tell of each row its number, its id and its text, or why it fails."""
    return [
        (
            block.first_row + at,
            block.carried.column(0)[at].as_py(),
            block.faults[at].reason if at in block.faults else text,
        )
        for block in blocks(*arguments, skip=skip)
        for at, text in enumerate(block.texts)
    ]
