"""Rows of JSONL: only the fields that matter are read, and carried values keep their spelling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from embedpool_cli.embed.blocks import Gathering
from embedpool_cli.embed.lines import Stream
from embedpool_cli.embed.rows import NULL, Fault

TOO_LONG: Final = Fault("the line is longer than 64 MiB")
WORDS: Final = {bool: "a boolean", int: "a number", float: "a number", list: "an array"}


def read_jsonl(stream: Stream, gathering: Gathering) -> Iterator[None]:
    """Gather every line that is not blank, and pause after each."""
    reader = _LineReader(gathering)
    for number, line in enumerate(stream.lines(), 1):
        if line is not None and (not line or line.isspace()):
            continue
        if gathering.passes_over():
            continue
        if line is None:
            gathering.reject(number, TOO_LONG)
        else:
            reader.take(number, line)
        yield


class _LineReader:
    def __init__(self, gathering: Gathering) -> None:
        fields = gathering.fields
        wanted = [name for name in (fields.text, *fields.carried) if name is not None]
        names = {name: f"f{number}" for number, name in enumerate(dict.fromkeys(wanted))}
        row = msgspec.defstruct(
            "Row",
            [(attribute, msgspec.Raw, msgspec.Raw()) for attribute in names.values()],
            rename={attribute: name for name, attribute in names.items()},
        )
        self._gathering = gathering
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(row)
        self._text = names[fields.text]
        self._missing = Fault(f"the row has no {fields.text}")
        self._carried = [None if name is None else names[name] for name in fields.carried]

    def take(self, number: int, line: bytes) -> None:
        try:
            row = self._decoder.decode(line)
        except msgspec.ValidationError:
            self._gathering.reject(number, Fault("the line is no JSON object"))
        except msgspec.DecodeError as error:
            self._gathering.reject(number, Fault(f"the line is not JSON: {error}"))
        else:
            self._take_row(number, row)

    def _take_row(self, number: int, row: Any) -> None:
        raw = bytes(getattr(row, self._text))
        try:
            values = [None if name is None else _value(row, name) for name in self._carried]
            text = msgspec.json.decode(raw) if raw else None
        except ValueError:
            self._gathering.reject(number, Fault("the line holds text that is not UTF-8"))
            return
        if isinstance(text, str):
            self._gathering.add(number, text, values)
        else:
            self._gathering.reject(number, self._fault(text, is_missing=not raw), values)

    def _fault(self, value: object, *, is_missing: bool) -> Fault:
        if is_missing:
            return self._missing
        if value is None:
            return NULL
        return Fault(f"the text is {WORDS.get(type(value), 'an object')}, it should be a string")


def _value(row: Any, name: str) -> str | None:
    raw = bytes(getattr(row, name))
    if not raw:
        return None
    if b"\\u" in raw:
        # Half a surrogate pair can be spelled, but is no text.
        msgspec.json.decode(raw)
    return raw.decode()
