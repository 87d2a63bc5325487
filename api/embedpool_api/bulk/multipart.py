"""Reads multipart/form-data piece by piece: the only module that knows python-multipart.

It holds no more than a part's headers; what a part contains goes out as it comes in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from embedpool_shared.errors import BadRequest

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

EXPECTED: Final = "send multipart/form-data with the fields `file` and `purpose`"
_AS_IT_IS: Final = frozenset({b"", b"7bit", b"8bit", b"binary"})


class PartBegins(NamedTuple):
    """The headers of a part are there."""

    name: str
    filename: str | None  # as the client says it


class PartPiece(NamedTuple):
    """Some more of what the part contains."""

    content: bytes


class PartEnds(NamedTuple):
    """The part is complete."""


Event = PartBegins | PartPiece | PartEnds


class MultipartForm:
    """One form on its way in."""

    def __init__(self, content_type: bytes) -> None:
        """Raises `BadRequest` for any other content type, or one without a boundary."""
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise BadRequest(f"This is no form; {EXPECTED}")
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._part_begins,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_ends,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._part_data,
            "on_part_end": self._part_ends,
            "on_end": self._form_ends,
        }
        self._parser = _parser(boundary, callbacks)
        self._events: list[Event] = []
        self._headers: dict[bytes, bytes] = {}
        self._name = self._value = b""
        self._is_complete = False

    def feed(self, received: bytes) -> list[Event]:
        """Read some more of the body; raises `BadRequest` where it is not a form."""
        self._events = []
        try:
            self._parser.write(received)
        except FormParserError:
            raise BadRequest(f"The form is damaged; {EXPECTED}") from None
        return self._events

    def end(self) -> None:
        """The body is over; raises `BadRequest` if the form is not."""
        if not self._is_complete:
            raise BadRequest("The form ends in the middle; send all of it")

    def _part_begins(self) -> None:
        self._headers = {}

    def _header_name(self, received: bytes, start: int, end: int) -> None:
        self._name += received[start:end]

    def _header_value(self, received: bytes, start: int, end: int) -> None:
        self._value += received[start:end]

    def _header_ends(self) -> None:
        self._headers[self._name.lower()] = self._value.strip()
        self._name = self._value = b""

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        name, filename = options.get(b"name"), options.get(b"filename")
        if name is None:
            raise BadRequest(f"A part of the form has no name; {EXPECTED}")
        if self._headers.get(b"content-transfer-encoding", b"").lower() not in _AS_IT_IS:
            raise BadRequest("A part of the form is encoded; send it as it is")
        self._events.append(PartBegins(_text(name), None if filename is None else _text(filename)))

    def _part_data(self, received: bytes, start: int, end: int) -> None:
        self._events.append(PartPiece(received[start:end]))

    def _part_ends(self) -> None:
        self._events.append(PartEnds())

    def _form_ends(self) -> None:
        self._is_complete = True


def _parser(boundary: bytes, callbacks: MultipartCallbacks) -> MultipartParser:
    try:
        return MultipartParser(boundary, callbacks)
    except FormParserError:
        raise BadRequest("The form's boundary is too long") from None


def _text(name: bytes) -> str:
    return name.decode("utf-8", errors="replace")
