"""What is carried beside the vectors, kept apart until its types are known.

It is an Arrow stream without an end, so it can be cut back to any length that was journalled and
written on.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from embedpool_cli.embed.append_file import AppendFile


class CarriedFile(AppendFile):
    """The file, open for adding."""

    def add_batch(self, batch: Any) -> None:
        """Write a batch; raises `OSError`."""
        if not self.size_bytes:
            self.add(memoryview(batch.schema.serialize()))
        self.add(memoryview(batch.serialize()))


def batches(path: Path) -> Iterator[Any]:
    """Read it back, batch by batch."""
    if path.exists() and path.stat().st_size:
        # Read, not mapped: mapped pages would count as our memory, as much as the disk holds.
        with pa.OSFile(str(path)) as file:
            yield from pa.ipc.open_stream(file)
