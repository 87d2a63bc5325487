"""Rows of CSV with a header. Every value is text: an id of 007 stays that."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from io import TextIOWrapper
from typing import Final

import orjson

from embedpool_cli.embed.blocks import Gathering
from embedpool_cli.embed.lines import Broken, Stream
from embedpool_cli.embed.rows import Fault

MAX_FIELD_CHARS: Final = min(sys.maxsize, 1 << 26)


def read_csv(stream: Stream, gathering: Gathering) -> Iterator[None]:
    """Gather every record, and pause after each; raises `Broken`."""
    csv.field_size_limit(MAX_FIELD_CHARS)
    # Bytes that are no UTF-8 survive as what no text may hold, so that only their row is rejected.
    text = TextIOWrapper(stream.file(), encoding="utf-8-sig", errors="surrogateescape", newline="")
    records = csv.reader(text)
    try:
        reader = _RecordReader(gathering, next(records, []))
        for record in records:
            if not record or gathering.passes_over():
                continue
            reader.take(records.line_num, record)
            yield
    except csv.Error as error:
        where = f"{gathering.source}, line {records.line_num}"
        raise Broken(f"{where}: this is no CSV: {error}") from None
    finally:
        text.detach()


class _RecordReader:
    def __init__(self, gathering: Gathering, header: Sequence[str]) -> None:
        self._gathering = gathering
        self._width = len(header)
        fields = gathering.fields
        self._text = _position(gathering.source, header, fields.text)
        self._carried = [
            None if name is None else _position(gathering.source, header, name)
            for name in fields.carried
        ]

    def take(self, number: int, record: Sequence[str]) -> None:
        if len(record) != self._width:
            self._gathering.reject(
                number, Fault(f"the row has {len(record)} fields, the header {self._width}")
            )
            return
        try:
            values = [None if at is None else _quoted(record[at]) for at in self._carried]
            text = record[self._text]
            if not text.isascii():
                text.encode()
        except (UnicodeEncodeError, orjson.JSONEncodeError):
            self._gathering.reject(number, Fault("the row holds text that is not UTF-8"))
        else:
            self._gathering.add(number, text, values)


def _position(source: str, header: Sequence[str], name: str) -> int:
    if name not in header:
        raise Broken(f"{source} has no column {name}; its header has {', '.join(header) or 'none'}")
    return header.index(name)


def _quoted(value: str) -> str:
    return orjson.dumps(value).decode()
