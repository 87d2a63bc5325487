"""Rows of plain text: a line each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import orjson

from embedpool_cli.embed.blocks import Gathering
from embedpool_cli.embed.lines import Stream
from embedpool_cli.embed.read_jsonl import TOO_LONG
from embedpool_cli.embed.rows import Fault

NOT_UTF8: Final = Fault("the line is not UTF-8")


def read_text(stream: Stream, gathering: Gathering) -> Iterator[None]:
    """Gather every line, and pause after each."""
    carried = gathering.fields.carried
    for number, line in enumerate(stream.lines(), 1):
        if gathering.passes_over():
            continue
        if line is None:
            gathering.reject(number, TOO_LONG)
        else:
            _take(gathering, number, line, carried)
        yield


def _take(gathering: Gathering, number: int, line: bytes, carried: tuple[str | None, ...]) -> None:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        gathering.reject(number, NOT_UTF8)
        return
    # Its only field is the line itself, whatever that is called.
    quoted = orjson.dumps(text).decode() if any(carried) else None
    gathering.add(number, text, [None if name is None else quoted for name in carried])
