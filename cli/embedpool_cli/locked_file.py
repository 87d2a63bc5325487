"""A file that one process at a time holds locked, for as long as anybody has it open for it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def open_to_lock(path: Path) -> int:
    """Open a file, made for its owner alone where it is missing; raises `OSError`.

    Whoever inherits the descriptor has the lock, too: it is free when all have closed it.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def is_locked_now(fd: int) -> bool:
    """Lock it, or say that somebody else has it; raises `OSError` where nothing can be locked."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
