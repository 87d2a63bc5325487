"""A batch's input as numbered lines, and what each asks for. Pure.

A line is `{"custom_id": …, "method": "POST", "url": "/v1/embeddings", "body": {…}}`. Here only the
envelope is read: what is wrong with it fails the whole batch, before anything is sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from embedpool_shared.batches import ENDPOINT, LineProblem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BOM: Final = b"\xef\xbb\xbf"
METHOD: Final = "POST"
MAX_ID_LETTERS: Final = 512
SHOWN_LETTERS: Final = 64


class RawLine(NamedTuple):
    """One line as it stands in the file."""

    number: int  # from 1
    text: bytes | None  # without its end; None: it is too long to be kept
    end_offset: int  # where the line after it begins


class Asked(NamedTuple):
    """What one line asks for; its body was not looked into yet."""

    number: int
    custom_id: str
    body: dict[str, Any]


def cut(
    chunks: Iterable[bytes], *, max_line_bytes: int, offset: int = 0, number: int = 0
) -> Iterator[RawLine]:
    """Cut a file into lines, from `offset` on, where the line after the `number`th begins.

    Lines end with LF or CRLF. Blank ones count only where another line follows.
    """
    line = _Unfinished(max_line_bytes)
    blanks = 0
    for raw, size_bytes in _pieces(chunks, line):
        text = raw.removesuffix(b"\r") if raw is not None else None
        if not offset and text is not None:
            text = text.removeprefix(BOM)
        offset += size_bytes
        if text is not None and not text.strip():
            blanks += 1
            continue
        for blank in range(number + 1, number + blanks + 1):
            yield RawLine(blank, b"", offset - size_bytes)
        number += blanks + 1
        blanks = 0
        is_too_long = text is None or len(text) > max_line_bytes
        yield RawLine(number, None if is_too_long else text, offset)


class _Unfinished:
    """The line whose end is still to come; of one that is too long, only its length."""

    def __init__(self, max_line_bytes: int) -> None:
        # With its CR and a BOM, a line that is just short enough is longer.
        self._max_bytes = max_line_bytes + len(BOM) + 1
        self._pieces: list[bytes] = []
        self.size_bytes = 0

    def add(self, piece: bytes) -> None:
        self.size_bytes += len(piece)
        if self.size_bytes > self._max_bytes:
            self._pieces.clear()
        elif piece:
            self._pieces.append(piece)

    def taken(self) -> tuple[bytes | None, int]:
        size_bytes, pieces = self.size_bytes, self._pieces
        self._pieces, self.size_bytes = [], 0
        return (None if size_bytes > self._max_bytes else b"".join(pieces)), size_bytes


def _pieces(chunks: Iterable[bytes], line: _Unfinished) -> Iterator[tuple[bytes | None, int]]:
    """Yield each line, with CR but without LF, and how many bytes it takes in the file."""
    for chunk in chunks:
        first, *others = chunk.split(b"\n")
        line.add(first)
        for following in others:
            text, size_bytes = line.taken()
            yield text, size_bytes + 1
            line.add(following)
    if line.size_bytes:
        yield line.taken()


def asked(line: RawLine, *, max_line_bytes: int) -> Asked | LineProblem:
    """Read a line's envelope, or say what is wrong with it."""
    number, text, _ = line
    if text is None:
        return LineProblem(
            code="line_too_long",
            message=f"This line is longer than {max_line_bytes} bytes.",
            line=number,
        )
    try:
        fields = orjson.loads(text)
    except orjson.JSONDecodeError:
        return LineProblem(
            code="invalid_json_line", message="This line is not valid JSON.", line=number
        )
    if type(fields) is not dict:
        return LineProblem(
            code="invalid_json_line", message="This line is not a JSON object.", line=number
        )
    return _problem(fields, number) or Asked(number, fields["custom_id"], fields["body"])


def inputs_in(body: dict[str, Any]) -> int:
    """Count the inputs of a body; one that is no list of inputs counts as one."""
    value = body.get("input")
    if type(value) is list and value and type(value[0]) is not int:
        return len(value)
    return 1


def shown(text: str) -> str:
    """Shorten what a caller wrote, for a message."""
    return text if len(text) <= SHOWN_LETTERS else f"{text[:SHOWN_LETTERS]}…"


def _problem(fields: dict[str, Any], number: int) -> LineProblem | None:
    for param in ("custom_id", "method", "url", "body"):
        if fields.get(param) is None:
            return LineProblem(
                code="missing_required_parameter",
                message=f"This line has no `{param}`.",
                line=number,
                param=param,
            )
    custom_id, method, url = fields["custom_id"], fields["method"], fields["url"]
    if type(custom_id) is not str or not 0 < len(custom_id) <= MAX_ID_LETTERS:
        code, param = "invalid_custom_id", "custom_id"
        message = f"`custom_id` must be a string of 1 to {MAX_ID_LETTERS} letters."
    elif method != METHOD:
        code, param, message = "invalid_method", "method", f"`method` must be '{METHOD}'."
    elif url != ENDPOINT:
        code, param = "invalid_url", "url"
        message = f"`url` must be the batch's endpoint, '{ENDPOINT}'."
    elif type(fields["body"]) is not dict:
        code, param, message = "invalid_body", "body", "`body` must be a JSON object."
    else:
        return None
    return LineProblem(code=code, message=message, line=number, param=param)
