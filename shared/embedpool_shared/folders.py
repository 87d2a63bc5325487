"""Where a file store's bytes are: in a folder of this machine, or wherever fsspec reaches.

Everything here raises what the system or fsspec raises; `file_store` makes it ours. Names are
relative, with `/` between their parts.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from io import BufferedWriter, FileIO
from pathlib import Path
from typing import BinaryIO, Final, Protocol, TypeVar
from urllib.parse import urlsplit

from embedpool_shared.errors import ConfigInvalid

LOCAL: Final = "file://"
BUFFER_BYTES: Final = 1 << 20
_FILE_MODE: Final = 0o600
_FOLDER_MODE: Final = 0o700

T = TypeVar("T")


class Folder(Protocol):
    """What a store asks of the place its bytes are in."""

    def create(self, name: str) -> BinaryIO:
        """Open a file that is not there yet, for writing."""
        ...

    def finish(self, file: BinaryIO, fresh: str, name: str) -> None:
        """Close what was written at `fresh`, safe from any crash, and put it at `name`."""
        ...

    def open(self, name: str, offset: int) -> BinaryIO:
        """Open a file for reading from there on."""
        ...

    def size_bytes(self, name: str) -> int:
        """Measure a file."""
        ...

    def remove(self, name: str) -> None:
        """Delete a file; raises `FileNotFoundError`."""
        ...

    def remove_folder(self, name: str) -> None:
        """Delete a folder with all in it; raises `FileNotFoundError`."""
        ...

    def write_once(self, name: str, text: bytes, fresh: str) -> None:
        """Write a small file unless there is one: of two who do so at once, one succeeds."""
        ...

    def changed_at(self, name: str) -> dict[str, float]:
        """Say of each file in a folder when it last changed, by the clock of its place."""
        ...


def folder_at(url: str) -> Folder:
    """Reach the folder at `url`; raises `ConfigInvalid` for one that nothing here can reach."""
    if url.startswith(LOCAL):
        return LocalFolder(Path(url.removeprefix(LOCAL)))
    return RemoteFolder(url)


class LocalFolder:
    """A folder of this machine, or one that is mounted like one; only its owner can look in."""

    def __init__(self, root: Path) -> None:
        """Create nothing yet."""
        self._root = root

    def create(self, name: str) -> BinaryIO:
        """Open a file that is not there yet, for writing."""
        path = self._root / name
        _create_folder(path.parent)
        return BufferedWriter(FileIO(path, "x", opener=_private), BUFFER_BYTES)

    def finish(self, file: BinaryIO, fresh: str, name: str) -> None:
        """Close what was written at `fresh`, safe from any crash, and put it at `name`."""
        file.flush()
        os.fsync(file.fileno())
        file.close()
        path = self._root / name
        _create_folder(path.parent)
        (self._root / fresh).rename(path)
        _sync(path.parent)

    def open(self, name: str, offset: int) -> BinaryIO:
        """Open a file for reading from there on."""
        file = (self._root / name).open("rb", buffering=0)
        file.seek(offset)
        return file

    def size_bytes(self, name: str) -> int:
        """Measure a file."""
        return (self._root / name).stat().st_size

    def remove(self, name: str) -> None:
        """Delete a file; raises `FileNotFoundError`."""
        (self._root / name).unlink()

    def remove_folder(self, name: str) -> None:
        """Delete a folder with all in it; raises `FileNotFoundError`."""
        shutil.rmtree(self._root / name)

    def write_once(self, name: str, text: bytes, fresh: str) -> None:
        """Write a small file unless there is one: of two who do so at once, one succeeds."""
        self._write(fresh, text)
        try:
            # Unlike a rename, a link never replaces what another process was faster to write.
            with suppress(FileExistsError):
                os.link(self._root / fresh, self._root / name)
        finally:
            self.remove(fresh)
        _sync((self._root / name).parent)

    def changed_at(self, name: str) -> dict[str, float]:
        """Say of each file in a folder when it last changed, by the clock of its place."""
        found: dict[str, float] = {}
        for entry in os.scandir(self._root / name):
            with suppress(FileNotFoundError):  # it is in its place by now
                found[f"{name}/{entry.name}"] = entry.stat().st_mtime
        return found

    def _write(self, name: str, text: bytes) -> None:
        with self.create(name) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())


class RemoteFolder:
    """A folder that fsspec reaches: `s3://`, `gs://`, `sftp://` … and, for tests, `memory://`."""

    def __init__(self, url: str) -> None:
        """Load what this kind of URL needs; raises `ConfigInvalid`, without the URL's secrets."""
        import fsspec  # type: ignore[import-untyped] # noqa: PLC0415 (only where it is needed)

        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
        except Exception as error:  # noqa: BLE001 (anything at all, and words that may hold secrets)
            raise ConfigInvalid(f"files.url: {_unreachable(url, error)}") from None

    def create(self, name: str) -> BinaryIO:
        """Open a file that is not there yet, for writing."""
        return self._into(self._at(name), partial(self._opened, mode="wb"))

    def finish(self, file: BinaryIO, fresh: str, name: str) -> None:
        """Close what was written at `fresh`, and put it at `name`; there it appears whole."""
        file.close()
        self._into(self._at(name), lambda path: self._files.mv(self._at(fresh), path))

    def open(self, name: str, offset: int) -> BinaryIO:
        """Open a file for reading from there on."""
        file = self._opened(self._at(name), mode="rb")
        file.seek(offset)
        return file

    def size_bytes(self, name: str) -> int:
        """Measure a file."""
        self._files.invalidate_cache()  # another process may have written it
        found = self._files.info(self._at(name))
        if found["type"] != "file":
            raise FileNotFoundError(name)
        return int(found["size"])

    def remove(self, name: str) -> None:
        """Delete a file; raises `FileNotFoundError`."""
        self._files.invalidate_cache()
        self._files.rm_file(self._at(name))

    def remove_folder(self, name: str) -> None:
        """Delete a folder with all in it; raises `FileNotFoundError`."""
        self._files.invalidate_cache()
        self._files.rm(self._at(name), recursive=True)

    def write_once(self, name: str, text: bytes, fresh: str) -> None:
        """Write a small file unless there is one; where the service can, only one succeeds."""
        del fresh
        with suppress(FileExistsError):
            self._into(
                self._at(name), lambda path: self._files.pipe_file(path, text, mode="create")
            )

    def changed_at(self, name: str) -> dict[str, float]:
        """Say of each file in a folder when it last changed, by the clock of its place."""
        self._files.invalidate_cache()
        found: dict[str, float] = {}
        for path in self._files.ls(self._at(name), detail=False):
            with suppress(FileNotFoundError):
                at = self._files.modified(path).timestamp()
                found[f"{name}/{path.rpartition('/')[2]}"] = at
        return found

    def _at(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _opened(self, path: str, *, mode: str) -> BinaryIO:
        file: BinaryIO = self._files.open(path, mode)
        return file

    def _into(self, path: str, put: Callable[[str], T]) -> T:
        """Put something there, into a folder that is made where one is needed and missing.

        Not asked for first: object stores have no folders, and every question is a call.
        """
        try:
            return put(path)
        except FileNotFoundError:
            self._files.makedirs(self._files._parent(path), exist_ok=True)
            return put(path)


def _unreachable(url: str, error: Exception) -> str:
    scheme = urlsplit(url).scheme
    if isinstance(error, ImportError):
        return f"{scheme}:// needs a package that is not installed; fsspec's documentation names it"
    if isinstance(error, ValueError):
        return f"fsspec does not know {scheme}://, or not this form of it"
    return f"fsspec cannot use this {scheme}:// ({type(error).__name__})"


def _create_folder(path: Path) -> None:
    """Create it and what is above it, each on disk in the one above."""
    if path.is_dir():
        return
    _create_folder(path.parent)
    with suppress(FileExistsError):
        path.mkdir(_FOLDER_MODE)
    _sync(path.parent)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, _FILE_MODE)


def _sync(folder: Path) -> None:
    """Wait until the names in a folder are on disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
