"""A file that only grows, from a length that is known to be good."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from embedpool_cli.embed.journal import write_all
from embedpool_cli.embed.lines import Broken

PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
CAN_FORGET: Final = hasattr(os, "posix_fadvise")


class AppendFile:
    """One file, open for adding."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        """Open or create it, and cut off what comes after; raises `OSError`, `Broken`."""
        self.size_bytes = size_bytes
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
        if os.fstat(self._fd).st_size < size_bytes:
            os.close(self._fd)
            raise Broken(f"{path} is shorter than its journal says: begin anew with --restart")
        os.ftruncate(self._fd, size_bytes)
        os.lseek(self._fd, 0, os.SEEK_END)

    def add(self, *pieces: bytes | memoryview) -> None:
        """Write at the end; raises `OSError`."""
        write_all(self._fd, pieces)
        self.size_bytes += sum(map(len, pieces))

    def sync(self) -> None:
        """Wait until all of it is on the disk; raises `OSError`."""
        os.fdatasync(self._fd)
        whole_bytes = self.size_bytes - self.size_bytes % PAGE_BYTES
        if CAN_FORGET and whole_bytes:
            # Nobody here reads it again: so much would push out of memory what others need, and
            # memory that was just used is had for a third of what fresh memory costs.
            os.posix_fadvise(self._fd, 0, whole_bytes, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)
