"""File stores for tests: in a folder, in memory, and one whose disk is full when a test says so."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from secrets import token_hex
from typing import Any, Final

from fsspec import register_implementation  # type: ignore[import-untyped]
from fsspec.implementations.memory import (  # type: ignore[import-untyped]
    MemoryFile,
    MemoryFileSystem,
)
from typing_extensions import override

from embedpool_shared.errors import StoreUnavailable
from embedpool_shared.file_store import FileStore, StoredFile

WORDS: Final = "canary of what the backend says"


class BrokenFiles(MemoryFileSystem):  # type: ignore[misc]
    """Files in memory; every write raises `broken` while there is one."""

    protocol = "broken"
    store: dict[str, Any] = {}  # noqa: RUF012 (as its parent has it)
    pseudo_dirs = [""]  # noqa: RUF012
    broken: Exception | None = None
    writes_left = 0

    @classmethod
    @override
    def _strip_protocol(cls, path: str) -> str:
        stripped: str = MemoryFileSystem._strip_protocol(path.removeprefix("broken://"))
        return stripped

    @override
    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if mode == "rb":
            return super()._open(path, mode, **options)
        file = BrokenFile(self, self._strip_protocol(path))
        file.commit()
        return file


class BrokenFile(MemoryFile):  # type: ignore[misc]
    """A file in memory that takes no more bytes once its store is broken."""

    @override
    def write(self, piece: bytes) -> int:
        if BrokenFiles.broken is not None and piece:
            if not BrokenFiles.writes_left:
                raise BrokenFiles.broken
            BrokenFiles.writes_left -= 1
        return int(super().write(piece))


class FolderStore(FileStore):
    """A store in a folder that is full, or away, while a test says so."""

    is_full = is_away = False
    refusals = 0

    @override
    def writer(self, path: str) -> StoredFile:
        if self.is_full or self.is_away:
            self._refuse()
        return super().writer(path)

    @override
    def read(self, path: str, *, offset: int = 0) -> Iterator[bytes]:
        if self.is_away:
            self._refuse()
        return super().read(path, offset=offset)

    def _refuse(self) -> None:
        self.refusals += 1
        raise StoreUnavailable("The file store is full, or away")


register_implementation("broken", BrokenFiles, clobber=True)


def memory_store() -> FileStore:
    """Make a store of its own, in memory."""
    return FileStore(f"memory://{token_hex(8)}")


def breaking_store() -> FileStore:
    """Make a store of its own that `break_stores` breaks."""
    return FileStore(f"broken://{token_hex(8)}")


def break_stores(error: Exception | None = None, *, after_writes: int = 0) -> None:
    """Let every write after the next so many fail: the disk is full, or `error`."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), WORDS)
    BrokenFiles.broken, BrokenFiles.writes_left = error or full, after_writes


def mend_stores() -> None:
    """Let every write succeed again."""
    BrokenFiles.broken = None
