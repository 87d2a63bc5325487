"""The secret that `embedpool serve` makes once and keeps: a file in the data directory.

Invariants
- It is readable by its owner alone, from its first byte on; one that others may read is refused.
- It appears whole or not at all, and once: of several servers that make one, all use the first.
- It is in no message.
"""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from embedpool_cli.data_directory import create_directory
from embedpool_shared.config.environment import SECRET_NAME
from embedpool_shared.config.settings import MIN_SECRET_CHARS
from embedpool_shared.errors import ConfigInvalid

FILE_NAME: Final = "secret"
RANDOM_BYTES: Final = 32
MAX_FILE_BYTES: Final = 4_096
OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def kept_secret(directory: Path) -> str:
    """Return the secret kept in `directory`, made if there is none; raises `ConfigInvalid`."""
    path = directory / FILE_NAME
    try:
        create_directory(directory)
        with suppress(FileNotFoundError):
            return _read(path)
        _make(path)
        return _read(path)
    except OSError as error:
        raise _unusable(path, error.strerror or type(error).__name__) from None


def _make(path: Path) -> None:
    """Put a new secret at `path`, unless somebody else was first."""
    fd, draft = tempfile.mkstemp(prefix=f"{FILE_NAME}.", dir=path.parent)  # for its owner alone
    try:
        with os.fdopen(fd, "w", encoding="ascii") as file:
            file.write(f"{secrets.token_urlsafe(RANDOM_BYTES)}\n")
            file.flush()
            os.fsync(fd)
        # A link, unlike a rename, never replaces what is already there.
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        Path(draft).unlink()


def _read(path: Path) -> str:
    # Not to be held up by a pipe of that name.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(fd, "rb") as file:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            raise _unusable(path, "it is no file")
        if mode & OTHERS:
            raise _unusable(path, f"others may read or change it; chmod 600 {path}")
        content = file.read(MAX_FILE_BYTES + 1)
    secret = content.decode("latin-1").strip()
    if not secret:
        raise _unusable(path, "it is empty")
    if len(content) > MAX_FILE_BYTES or not (secret.isascii() and secret.isprintable()):
        raise _unusable(path, "it is not one line of text")
    if len(secret) < MIN_SECRET_CHARS:
        raise _unusable(path, f"it is shorter than {MIN_SECRET_CHARS} characters")
    return secret


def _unusable(path: Path, why: str) -> ConfigInvalid:
    return ConfigInvalid(
        f"cannot use the secret in {path} ({why}); or set {SECRET_NAME}, which goes before it"
    )
