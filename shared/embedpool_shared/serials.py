"""Ids that nobody makes twice, in whatever process: a random beginning, then a number."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from itertools import count


def serials(kind: str = "", *, digits: int = 1) -> Iterator[str]:
    """Make ids without end; a random one each time would cost a system call."""
    start = kind + secrets.token_hex(8)
    return (f"{start}{number:0{digits}x}" for number in count())
