"""The lines of the reject file: which row, where it is, and why it has no vector."""

from __future__ import annotations

from typing import Any

import orjson

from embedpool_cli.embed.rows import Block, Done, Fault


def reject_lines(done: Done) -> list[bytes]:
    """Write a line for each row of `done` that failed."""
    return [
        _line(done.block, at, item.fault)
        for at, item in enumerate(done.items, done.start)
        if item.vector is None and item.fault is not None
    ]


def _line(block: Block, at: int, fault: Fault) -> bytes:
    told: dict[str, Any] = {
        "row": block.first_row + at,
        "input": block.source,
        "line": block.places[at],
        "id": _id(block.carried.column(0)[at].as_py(), is_json=bool(block.kinds)),
        "reason": fault.reason,
        "status": fault.status,
        "code": fault.code,
    }
    return orjson.dumps(told, default=str, option=orjson.OPT_APPEND_NEWLINE)


def _id(value: Any, *, is_json: bool) -> Any:
    return orjson.Fragment(value) if is_json and value is not None else value
