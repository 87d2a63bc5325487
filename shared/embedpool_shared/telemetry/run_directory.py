"""The directory in which the processes of one role leave their numbers for whoever is scraped.

Each process has a slot, a small number that it holds by a lock for as long as it lives: the kernel
takes it back, however the process ends. Who comes next in a slot goes on with its counters, so
there are never more files than there were processes at a time.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from embedpool_shared.measures import Role

MAX_SLOTS: Final = 1_024
START: Final = "embedpool-run-"
OWNER: Final = "owner.lock"


class Slot:
    """A process' place among those of its role."""

    def __init__(self, number: int, descriptor: int) -> None:
        """Hold the lock behind `descriptor`."""
        self.number = number
        self._descriptor = descriptor

    def leave(self) -> None:
        """Let the next one in."""
        os.close(self._descriptor)


def role_directory(base: Path, role: Role) -> Path:
    """Name the directory of a role, and make it."""
    directory = base / role.value
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory


def take_slot(directory: Path) -> Slot:
    """Take the first slot that nobody living holds."""
    for number in range(MAX_SLOTS):
        descriptor = _locked(_lock(directory, number), os.O_RDWR | os.O_CREAT)
        if descriptor is not None:
            return Slot(number, descriptor)
    raise OSError(f"{directory} has {MAX_SLOTS} processes already")


def living_slots(directory: Path) -> frozenset[int]:
    """Say whose processes live."""
    numbers = (int(path.stem.removeprefix("slot-")) for path in directory.glob("slot-*.lock"))
    return frozenset(number for number in numbers if _is_locked(_lock(directory, number)))


@contextmanager
def new_run_directory() -> Iterator[Path]:
    """Make a directory that is gone afterwards; those that a killed process left go as well."""
    root = Path(tempfile.gettempdir())
    for left in root.glob(f"{START}*"):
        with suppress(OSError):
            if left.stat().st_uid == os.getuid() and not _is_locked(left / OWNER):
                shutil.rmtree(left, ignore_errors=True)
    # Under another name until it is locked: nobody takes it for one that was left.
    new = Path(tempfile.mkdtemp(prefix="embedpool-new-"))
    owner = _locked(new / OWNER, os.O_RDWR | os.O_CREAT)
    base = new.rename(new.with_name(new.name.replace("embedpool-new-", START)))
    try:
        yield base
    finally:
        if owner is not None:
            os.close(owner)
        shutil.rmtree(base, ignore_errors=True)


def _lock(directory: Path, number: int) -> Path:
    return directory / f"slot-{number}.lock"


def _is_locked(path: Path) -> bool:
    try:
        descriptor = _locked(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


def _locked(path: Path, flags: int) -> int | None:
    """Open and lock a file; None where somebody else has it locked."""
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
