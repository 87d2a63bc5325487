"""Parts: finished rows on disk, as Arrow messages one after the other.

A part is an Arrow stream without an end, so it can be cut back to any length that was journalled
and written on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from embedpool_cli.embed.journal import sync_folder, write_all


def part_path(folder: Path, number: int) -> Path:
    """Name a part's file."""
    return folder / f"part-{number:05d}.arrow"


class PartFile:
    """The part that is being written."""

    def __init__(self, folder: Path, number: int, size_bytes: int) -> None:
        """Open or create it, cut back to what is known to be good; raises `OSError`."""
        self.number = number
        self.size_bytes = size_bytes
        self._folder = folder
        self._fd = os.open(part_path(folder, number), os.O_WRONLY | os.O_CREAT, 0o666)
        os.ftruncate(self._fd, size_bytes)
        os.lseek(self._fd, 0, os.SEEK_END)

    def add(self, batch: Any) -> None:
        """Write a batch; raises `OSError`."""
        if not self.size_bytes:
            self._write(batch.schema.serialize())
        self._write(batch.serialize())

    def sync(self) -> None:
        """Wait until all of it is on the disk; raises `OSError`."""
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)

    def next(self) -> PartFile:
        """Close it for good and begin the part after it; raises `OSError`."""
        self.sync()
        self.close()
        following = PartFile(self._folder, self.number + 1, 0)
        sync_folder(self._folder)
        return following

    def _write(self, message: Any) -> None:
        write_all(self._fd, memoryview(message))
        self.size_bytes += message.size


def batches(folder: Path, number: int) -> Iterator[Any]:
    """Read a part back, batch by batch."""
    path = part_path(folder, number)
    if path.exists() and path.stat().st_size:
        with pa.memory_map(str(path)) as file:
            yield from pa.ipc.open_stream(file)
