"""An answer's body, decompressed where it must be, and never larger than the cap. Pure.

Nobody asks a provider for compression; what comes compressed all the same is inflated piece by
piece, so that a small body cannot become a large one before it is noticed.
"""

from __future__ import annotations

import zlib
from typing import Final

_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS
_INFLATED: Final = frozenset({"gzip", "x-gzip", "deflate"})
_PLAIN: Final = frozenset({"", "identity"})


class NotTaken(Exception):
    """The body is too large, or is not in an encoding that is read."""


class Unpacked:
    """A body that arrives in parts."""

    def __init__(self, encoding: str, *, max_bytes: int) -> None:
        """Expect a body in this `Content-Encoding`; raises `NotTaken` for one not read."""
        name = encoding.strip().lower()
        if name not in _PLAIN | _INFLATED:
            raise NotTaken("the answer is compressed, although that was not asked for")
        self._inflater = zlib.decompressobj(_GZIP_OR_ZLIB) if name in _INFLATED else None
        self._most_bytes = self._room_bytes = max_bytes
        self._parts: list[bytes] = []

    def add(self, part: bytes) -> None:
        """Take the next part off the wire; raises `NotTaken`."""
        if self._inflater is not None:
            try:
                # One byte more than there is room for shows that there is too much.
                part = self._inflater.decompress(part, self._room_bytes + 1)
            except zlib.error:
                raise NotTaken("the answer's compression is broken") from None
        self._room_bytes -= len(part)
        if self._room_bytes < 0:
            raise NotTaken(f"the answer is larger than {self._most_bytes} bytes")
        self._parts.append(part)

    def whole(self) -> bytes:
        """Everything that arrived; raises `NotTaken` if the compressed body has no end."""
        if self._inflater is not None and self._parts and not self._inflater.eof:
            raise NotTaken("the answer's compression is broken")
        return b"".join(self._parts)
