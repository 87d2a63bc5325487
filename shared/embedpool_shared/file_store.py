"""The store of files and batches: whole files under short names, in a folder given by URL.

It blocks: callers run it in a thread.

Invariants
- A file appears whole or not at all, and what has appeared outlives any crash.
- Where the store is not what it was, a mount that was lost, nothing is missing and nothing is
  written: the store is away.
- What goes wrong is ours: `NotFound` for a file that is not there, `StoreUnavailable` for
  everything else; no error and no repr shows the URL, which may hold a password.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath
from secrets import token_hex
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Final, Self

from typing_extensions import override

from embedpool_shared.errors import EmbedPoolError, NotFound, StoreUnavailable
from embedpool_shared.folders import folder_at

if TYPE_CHECKING:
    from embedpool_shared.config.settings import Config
    from embedpool_shared.folders import Folder

CHUNK_BYTES: Final = 1 << 20
NEW: Final = "new"
"""The folder of what is being written; whatever a crash leaves there is nobody's."""
MARK: Final = "mark"
_MARK_BYTES: Final = 64
MISSING: Final = "The file store has no such file"
GONE: Final = (
    "Something else is where the file store was: is a volume not mounted? Where it is meant to "
    "begin anew, restart embedpool"
)
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
NOT_CONFIGURED: Final = (
    "Files and batches need a store that the api and the workers share: set `files.url`"
)


def configured_store(config: Config) -> FileStore | None:
    """Open the store that `files.url` names; None where none is: files and batches are off.

    `embedpool serve` names one in its data directory. Raises `ConfigInvalid`.
    """
    url = config.files.url
    return None if url is None else FileStore(url.get_secret_value())


def require_store(store: FileStore | None) -> FileStore:
    """Return `store`; raises `StoreUnavailable` naming the setting where there is none."""
    if store is None:
        raise StoreUnavailable(NOT_CONFIGURED)
    return store


class FileStore:
    """The files of one store, by paths like `files/file-abc`."""

    def __init__(self, url: str) -> None:
        """Reach for it at the first use; raises `ConfigInvalid` for a URL that nothing can use."""
        self._folder = folder_at(url)
        self._kind = url.partition("://")[0]
        self._known = ""  # the mark, once it was seen

    @override
    def __repr__(self) -> str:
        return f"FileStore({self._kind}://…)"

    def writer(self, path: str) -> StoredFile:
        """Write a file: it is there once the context ends, and never if it ends by an error."""
        return StoredFile(self._folder, _checked(path), require=self._require_known)

    def read(self, path: str, *, offset: int = 0) -> Iterator[bytes]:
        """Yield a file from there on, in chunks of about 1 MiB; `NotFound` is raised at once."""
        with self._in_place():
            file = self._folder.open(_checked(path), offset)
        return _chunks(file)

    def size_bytes(self, path: str) -> int:
        """Measure a file."""
        with self._in_place():
            return self._folder.size_bytes(_checked(path))

    def delete(self, path: str) -> None:
        """Delete a file; one that is missing is fine."""
        name = _checked(path)
        with suppress(NotFound), self._in_place():
            self._folder.remove(name)

    def delete_folder(self, path: str) -> None:
        """Delete a folder and all in it; one that is missing is fine."""
        name = _checked(path)
        with suppress(NotFound), self._in_place():
            self._folder.remove_folder(name)

    def delete_abandoned(self, *, older_than_s: float) -> int:
        """Delete what crashes left half-written, so long untouched; return how many files.

        By the store's own clock: a file is written only to see what time it is there.
        """
        now = _fresh()
        self._require_known()
        with _ours(is_read=False):
            self._folder.create(now).close()
            changed_at = self._folder.changed_at(NEW)
        until_at = changed_at.pop(now) - older_than_s
        abandoned = [name for name, at in changed_at.items() if at <= until_at]
        for name in (now, *abandoned):
            self.delete(name)
        return len(abandoned)

    def mark(self) -> str:
        """Read what tells this store from every other; created once, whoever is first.

        From then on a store without it is away.
        """
        try:
            found = self._marked()
        except NotFound:
            if self._known:
                raise StoreUnavailable(GONE) from None
            with _ours(is_read=False):
                self._folder.write_once(MARK, token_hex(16).encode(), _fresh())
            found = self._marked()
        self._known = found
        return found

    def _marked(self) -> str:
        with _ours():
            file = self._folder.open(MARK, 0)
        found = b"".join(_chunks(file))
        if not 0 < len(found) <= _MARK_BYTES or not found.isalnum():
            raise StoreUnavailable(
                f"The file store's own file `{MARK}` was changed: is the store another program's?"
            )
        return found.decode()

    @contextmanager
    def _in_place(self) -> Iterator[None]:
        """Turn what is raised into ours; a file is missing only where the store is there."""
        try:
            with _ours():
                yield
        except NotFound:
            self._require_known()
            raise

    def _require_known(self) -> None:
        """Raise `StoreUnavailable` where this is not the store whose mark was seen."""
        if not self._known:
            return
        try:
            is_known = self._marked() == self._known
        except NotFound:
            is_known = False
        if not is_known:
            raise StoreUnavailable(GONE)


class StoredFile:
    """A file on its way into the store."""

    def __init__(
        self, folder: Folder, path: str, *, require: Callable[[], None] = lambda: None
    ) -> None:
        """Let `require` raise where nothing may be written."""
        self._require = require
        self._folder = folder
        self._path = path
        self._fresh = _fresh()
        self._file: BinaryIO | None = None
        self.size_bytes = 0

    def write(self, piece: bytes) -> None:
        """Add to the end."""
        if self._file is None:
            self._require()
        with _ours(is_read=False):
            if self._file is None:
                self._file = self._folder.create(self._fresh)
            self._file.write(piece)
        self.size_bytes += len(piece)

    def __enter__(self) -> Self:
        """Begin: nothing is to be seen of it yet."""
        self.write(b"")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put it in its place, safe from any crash; after an error, leave nothing."""
        file = self._file
        if file is None:
            return
        if error is not None:
            self._leave_nothing(file)
            return
        try:
            with _ours(is_read=False):
                self._folder.finish(file, self._fresh, self._path)
        except BaseException:
            self._leave_nothing(file)
            raise

    def _leave_nothing(self, file: BinaryIO) -> None:
        # What still waits in the buffer may not fit either; that it failed is known by now.
        with suppress(Exception):
            file.close()
        with suppress(Exception):
            self._folder.remove(self._fresh)


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    with _ours(), file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


@contextmanager
def _ours(*, is_read: bool = True) -> Iterator[None]:
    """Turn whatever the system or fsspec raises into an error of ours, without its words."""
    try:
        yield
    except EmbedPoolError:
        raise
    except Exception as error:  # noqa: BLE001 (every backend of fsspec has errors of its own)
        if is_read and isinstance(error, FileNotFoundError):
            raise NotFound(MISSING) from None
        raise StoreUnavailable(_said(error)) from None


def _said(error: Exception) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if number in FULL:
        return "The file store is full"
    reason = type(error).__name__ if number is None else os.strerror(number)
    return f"The file store cannot be used ({reason})"


def _fresh() -> str:
    return f"{NEW}/{token_hex(16)}"


def _checked(path: str) -> str:
    """Return `path`; raises `NotFound` for one that leads out of the store."""
    parts = PurePosixPath(path).parts
    if not parts or ".." in parts or parts[0] == "/":
        raise NotFound(MISSING)
    return path
