"""What an uploaded form has to be: one file, small fields around it, in any order. Pure.

Every rule is applied as soon as what it is about has arrived: a file that is too large is refused
while it comes in.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Final, NamedTuple, assert_never

from embedpool_api.bulk.multipart import MultipartForm, PartBegins, PartEnds, PartPiece
from embedpool_shared.batches import FILES_LIVE_S, Purpose
from embedpool_shared.errors import BadRequest, BodyTooLarge

FILE: Final = "file"
PURPOSE: Final = "purpose"
ANCHOR: Final = "expires_after[anchor]"
SECONDS: Final = "expires_after[seconds]"
FIELDS: Final = (FILE, PURPOSE, ANCHOR, SECONDS)
MAX_FIELD_BYTES: Final = 1_024
MAX_AROUND_BYTES: Final = 65_536
"""So much of a body may be something else than its file."""
MAX_NAME_LETTERS: Final = 255
MIN_LIVES_S: Final = 3_600
NAMELESS: Final = "file"


class Taken(NamedTuple):
    """A form that is as it should be; its file's content was handed on."""

    filename: str
    size_bytes: int
    lives_s: int


class Intake:
    """Takes one form in."""

    def __init__(
        self, form: MultipartForm, keep: Callable[[bytes], None], *, max_file_bytes: int
    ) -> None:
        """Hand the file's content to `keep`, piece by piece."""
        self._form = form
        self._keep = keep
        self._max_file_bytes = max_file_bytes
        self._part = ""
        self._fields: dict[str, bytes] = {}
        self._filename: str | None = None
        self.size_bytes = 0
        self.body_bytes = 0

    def take(self, received: bytes) -> None:
        """Take some more of the body; raises `BadRequest` and `BodyTooLarge`."""
        self.body_bytes += len(received)
        for event in self._form.feed(received):
            match event:
                case PartBegins(name, filename):
                    self._begin(name, filename)
                case PartPiece(content):
                    self._add(content)
                case PartEnds():
                    self._end()
                case _:
                    assert_never(event)
        if self.body_bytes > self._max_file_bytes + MAX_AROUND_BYTES:
            raise too_large(self._max_file_bytes)

    def done(self) -> Taken:
        """The body is over; raises `BadRequest` if anything is missing."""
        self._form.end()
        if self._filename is None:
            raise BadRequest("`file` is missing: the file to upload", param=FILE)
        if PURPOSE not in self._fields:
            raise BadRequest("`purpose` is missing: 'batch' is the only one", param=PURPOSE)
        if not self.size_bytes:
            raise BadRequest("`file` is empty", param=FILE)
        return Taken(self._filename, self.size_bytes, self._lives_s())

    def _begin(self, name: str, filename: str | None) -> None:
        if name not in FIELDS:
            near = get_close_matches(name[:64], FIELDS, n=1)
            hint = f"did you mean `{near[0]}`?" if near else "there are `file` and `purpose`"
            raise BadRequest(f"`{name[:64]}` is not known here; {hint}", param=name[:64])
        if name in self._fields or (name == FILE and self._filename is not None):
            raise BadRequest(f"`{name}` is there twice; send it once", param=name)
        self._part = name
        if name == FILE:
            self._filename = sane_name(filename or "")
        else:
            self._fields[name] = b""

    def _add(self, content: bytes) -> None:
        name = self._part
        if name == FILE:
            self.size_bytes += len(content)
            if self.size_bytes > self._max_file_bytes:
                raise too_large(self._max_file_bytes)
            self._keep(content)
            return
        self._fields[name] += content
        if len(self._fields[name]) > MAX_FIELD_BYTES:
            raise BadRequest(f"`{name}` is longer than any value of it", param=name)

    def _end(self) -> None:
        if self._part == PURPOSE and self._fields[PURPOSE] != Purpose.BATCH.value.encode():
            raise BadRequest(
                "`purpose` should be 'batch'; nothing else is kept here", param=PURPOSE
            )

    def _lives_s(self) -> int:
        if self._fields.keys().isdisjoint({ANCHOR, SECONDS}):
            return FILES_LIVE_S
        if self._fields.get(ANCHOR) != b"created_at":
            raise BadRequest("`expires_after[anchor]` should be 'created_at'", param=ANCHOR)
        said = self._fields.get(SECONDS, b"")
        seconds = int(said) if said.isdigit() and len(said) < 10 else 0
        if not MIN_LIVES_S <= seconds <= FILES_LIVE_S:
            raise BadRequest(
                f"`{SECONDS}` should be {MIN_LIVES_S} to {FILES_LIVE_S}", param=SECONDS
            )
        return seconds


def too_large(max_file_bytes: int) -> BodyTooLarge:
    """Say how large a file may be."""
    return BodyTooLarge(
        f"The file is larger than {max_file_bytes} bytes; split it into several", param=FILE
    )


def sane_name(said: str) -> str:
    """Keep of a file's name what is printable and no path."""
    name = said.replace("\\", "/").rpartition("/")[2]
    kept = "".join(letter for letter in name if letter.isprintable())
    return kept.strip()[:MAX_NAME_LETTERS] or NAMELESS
