"""The ids of files and batches: random, so that nobody can guess one."""

from __future__ import annotations

import secrets
import string
from typing import Final

LETTERS: Final = string.ascii_letters + string.digits
RANDOM_LETTERS: Final = 24


def new_file_id() -> str:
    """Make an id for a file."""
    return f"file-{_random()}"


def new_batch_id() -> str:
    """Make an id for a batch."""
    return f"batch_{_random()}"


def _random() -> str:
    return "".join(secrets.choice(LETTERS) for _ in range(RANDOM_LETTERS))
