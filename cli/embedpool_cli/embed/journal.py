"""What is safely on disk, a line for each time something was added; the last good line counts.

Invariants
- A line is written when what it tells of has reached the disk, never before.
- A torn or damaged end is as if it had never been written.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self
from zlib import crc32

import orjson

from embedpool_cli.embed.columns import Kind

CHECK_LETTERS: Final = 8
MOST_AT_ONCE: Final = os.sysconf("SC_IOV_MAX")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is; all figures are sums since its first start."""

    rows_in: int = 0
    rows_out: int = 0
    rejected: int = 0
    shard: int = 0  # the one that is being written; OUT without shards is one
    shard_bytes: int = 0
    carried_bytes: int = 0
    rejects_bytes: int = 0
    tokens: int = 0
    spent_pico_usd: int = 0
    dims: int | None = None
    kinds: tuple[Kind, ...] = ()
    is_complete: bool = False  # every row of the inputs is in OUT or rejected
    is_sealed: bool = False  # the output is whole and only has to be put in its place


class Journal:
    """One journal file, open for adding."""

    def __init__(self, path: Path) -> None:
        """Open or create it, cut off a damaged end; raises `OSError`."""
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        text = path.read_bytes()
        self.progress, good_bytes = last_progress(text)
        if good_bytes != len(text):
            os.ftruncate(self._fd, good_bytes)

    def add(self, progress: Progress) -> None:
        """Write a line that survives a power cut; raises `OSError`."""
        write_all(self._fd, [line_of(progress)])
        os.fdatasync(self._fd)
        self.progress = progress

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()


def line_of(progress: Progress) -> bytes:
    """Write `progress` as a line that shows when it is damaged."""
    fields: dict[str, Any] = asdict(progress)
    fields["kinds"] = [kind.value for kind in progress.kinds]
    return _checked(orjson.dumps(fields))


def last_progress(journal: bytes) -> tuple[Progress, int]:
    """Read the last good line before the first bad one, and how many bytes are good."""
    good_bytes = 0
    found = Progress()
    for line in journal.splitlines(keepends=True):
        progress = _progress(line)
        if progress is None:
            break
        found = progress
        good_bytes += len(line)
    return found, good_bytes


def write_all(fd: int, pieces: Sequence[bytes | memoryview]) -> None:
    """Write every byte of every piece; raises `OSError`."""
    for start in range(0, len(pieces), MOST_AT_ONCE):
        some = pieces[start : start + MOST_AT_ONCE]
        # It may write less, mostly where the disk is nearly full.
        if (count := os.writev(fd, some)) < sum(map(len, some)):
            rest = memoryview(b"".join(some))[count:]
            while rest:
                rest = rest[os.write(fd, rest) :]


def sync_folder(path: Path) -> None:
    """Make the names in a folder survive a power cut."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _checked(text: bytes) -> bytes:
    return b"%08x %b\n" % (crc32(text), text)


def _progress(line: bytes) -> Progress | None:
    text = line[CHECK_LETTERS + 1 : -1]
    if line != _checked(text):
        return None
    fields = orjson.loads(text)
    fields["kinds"] = tuple(map(Kind, fields["kinds"]))
    return Progress(**fields)
