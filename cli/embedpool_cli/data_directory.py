"""The directory that holds data and the secret: where it is, and that one store uses it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from embedpool_cli.locked_file import is_locked_now, open_to_lock
from embedpool_shared.errors import ConfigInvalid

LOCK: Final = "serve.lock"
ENDING_PATIENCE_S: Final = 5.0
GLANCE_S: Final = 0.05


def data_directory(flag: str | None, environ: Mapping[str, str]) -> Path:
    """Choose the directory: the flag, EMBEDPOOL_DATA_DIR, XDG_DATA_HOME or ~/.local/share."""
    named = flag or environ.get("EMBEDPOOL_DATA_DIR")
    if named:
        return Path(named).expanduser().absolute()
    shared = Path(environ.get("XDG_DATA_HOME") or "")
    # The XDG specification says to ignore a relative path.
    if not shared.is_absolute():
        shared = Path(environ.get("HOME") or Path("~").expanduser()).absolute() / ".local" / "share"
    return shared / "embedpool"


def create_directory(path: Path) -> None:
    """Create it, for its owner alone, where it is missing; raises `ConfigInvalid`."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(path, error) from None


class ClaimedDirectory:
    """A data directory that is ours alone, until it is closed and its heirs have ended.

    The lock goes with its file descriptor: a store that inherits `fd` holds it, too, so nobody
    else can open the data while it still writes.
    """

    def __init__(self, path: Path) -> None:
        """Create and lock it; raises `ConfigInvalid`."""
        self.path = path
        create_directory(path)
        try:
            self.fd = open_to_lock(path / LOCK)
        except OSError as error:
            raise _unusable(path, error) from None
        try:
            self._lock()
        except BaseException:
            self.close()
            raise
        os.truncate(self.fd, 0)
        os.pwrite(self.fd, str(os.getpid()).encode(), 0)

    def close(self) -> None:
        """Give our part of the lock back."""
        os.close(self.fd)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def _lock(self) -> None:
        give_up_at = time.monotonic() + ENDING_PATIENCE_S
        while not self._is_locked_now():
            written = os.pread(self.fd, 20, 0)
            holder = int(written) if written.isdigit() else 0
            if _is_alive(holder) or time.monotonic() > give_up_at:
                raise ConfigInvalid(
                    f"the data directory {self.path} is in use by another embedpool serve "
                    f"(process {holder}): stop that one, or choose another with --data-dir"
                )
            # Its server is gone; the store it leaves behind is just writing its last.
            time.sleep(GLANCE_S)

    def _is_locked_now(self) -> bool:
        try:
            return is_locked_now(self.fd)
        except OSError as error:
            raise ConfigInvalid(
                f"cannot lock the data directory {self.path} ({error.strerror}): choose one on a "
                "local disk with --data-dir"
            ) from None


def _unusable(path: Path, error: OSError) -> ConfigInvalid:
    return ConfigInvalid(
        f"cannot use the data directory {path} ({error.strerror}): choose another with "
        "--data-dir or EMBEDPOOL_DATA_DIR"
    )


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid > 0
