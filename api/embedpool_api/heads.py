"""Recognises a head that came before on its connection, so that nothing of it is read again. Pure.

A client says the same in every head but for the length of the body. What a parser made of the
first one holds for all of them; whatever differs by a byte elsewhere goes to the parser.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LENGTH: Final = b"content-length"
NEVER_KNOWN: Final = frozenset({b"content-encoding", b"expect", b"transfer-encoding", b"upgrade"})
"""Whoever sends one of these wants something done beyond an answer to a plain body."""
MAX_HEAD_BYTES: Final = 16_384
MAX_LENGTH_DIGITS: Final = 7
_END: Final = b"\r\n\r\n"
_length_in = re.compile(rb"\r\n" + LENGTH + rb":[ \t]*([0-9]+)\r\n", re.IGNORECASE).search


class KnownHead(NamedTuple):
    """A request's head around the number that says how long its body is."""

    before: bytes
    after: bytes
    headers: Mapping[bytes, bytes]  # names in lower case, without that number

    def body_of(self, data: bytes) -> bytes | None:
        """Take the body out of `data` if that is a whole request with this head, and no more."""
        if not data.startswith(self.before):
            return None
        start = len(self.before)
        end = data.find(b"\r", start, start + MAX_LENGTH_DIGITS + 1)
        digits = data[start:end]
        if end < 0 or not digits.isdigit() or not data.startswith(self.after, end):
            return None
        body = data[end + len(self.after) :]
        return body if len(body) == int(digits) else None


def known_head(data: bytes, headers: Sequence[tuple[bytes, bytes]]) -> KnownHead | None:
    """Remember the head of `data`, a whole request and no more, of which a parser made `headers`.

    None where it says more of the body than its length.
    """
    kept = dict(headers)
    size_bytes = data.find(_END) + len(_END)
    found = _length_in(data, 0, size_bytes)
    is_plain = len(kept) == len(headers) and kept.keys().isdisjoint(NEVER_KNOWN)
    if found is None or size_bytes > MAX_HEAD_BYTES or not is_plain:
        return None
    del kept[LENGTH]
    known = KnownHead(data[: found.start(1)], data[found.end(1) : size_bytes], kept)
    return known if known.body_of(data) is not None else None
