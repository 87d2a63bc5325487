"""Parts: finished rows on disk, as Arrow messages one after the other.

A part is an Arrow stream without an end, so it can be cut back to any length that was journalled
and written on.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from embedpool_cli.embed.append_file import AppendFile
from embedpool_cli.embed.journal import sync_folder


def part_path(folder: Path, number: int) -> Path:
    """Name a part's file."""
    return folder / f"part-{number:05d}.arrow"


class PartFile(AppendFile):
    """The part that is being written."""

    def __init__(self, folder: Path, number: int, size_bytes: int) -> None:
        """Go on with it after so many bytes; raises `OSError`, `Broken`."""
        super().__init__(part_path(folder, number), size_bytes)
        self.number = number
        self._folder = folder

    def add_batch(self, batch: Any) -> None:
        """Write a batch; raises `OSError`."""
        if not self.size_bytes:
            self.add(memoryview(batch.schema.serialize()))
        self.add(memoryview(batch.serialize()))

    def next(self) -> PartFile:
        """Close it for good and begin the part after it; raises `OSError`."""
        self.sync()
        self.close()
        following = PartFile(self._folder, self.number + 1, 0)
        sync_folder(self._folder)
        return following


def batches(folder: Path, number: int) -> Iterator[Any]:
    """Read a part back, batch by batch."""
    path = part_path(folder, number)
    if path.exists() and path.stat().st_size:
        # Read, not mapped: mapped pages would count as our memory, as much as the disk holds.
        with pa.OSFile(str(path)) as file:
            yield from pa.ipc.open_stream(file)
