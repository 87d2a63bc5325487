"""How virtual keys look: made, recognised, and shown without what makes them work."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from typing import Final

from embedpool_shared.errors import BadRequest

KEY_BYTES: Final = 32
MIN_KEY_LETTERS: Final = 32
"""A key that a caller brings needs as many, its prefix included."""
MAX_KEY_LETTERS: Final = 256
ID_BYTES: Final = 12
_sane_key = re.compile(r"[A-Za-z0-9._~-]+", re.ASCII).fullmatch
_is_id = re.compile(rf"[0-9a-f]{{{2 * ID_BYTES}}}", re.ASCII).fullmatch
_is_digest = re.compile(r"[0-9a-f]{64}", re.ASCII).fullmatch


def new_key(prefix: str) -> str:
    """Make a key nobody can guess."""
    return prefix + secrets.token_urlsafe(KEY_BYTES)


def new_id() -> str:
    """Make an id for an account; it is shorter than any key, and no secret."""
    return secrets.token_hex(ID_BYTES)


def brought_key(key: str, prefix: str) -> str:
    """Accept a key that was made elsewhere; raises `BadRequest`, which never holds the key."""
    if not key.startswith(prefix):
        raise BadRequest(
            f"a key of your own has to begin with '{prefix}' (auth.key_prefix)", param="key"
        )
    if not MIN_KEY_LETTERS <= len(key) <= MAX_KEY_LETTERS or not _sane_key(key):
        raise BadRequest(
            f"a key of your own needs {MIN_KEY_LETTERS} to {MAX_KEY_LETTERS} letters, digits, "
            "'-', '_', '.' or '~'; leave `key` out to get one that nobody can guess",
            param="key",
        )
    return key


def shown(key: str, prefix: str) -> str:
    """Show its prefix and its last four letters."""
    return f"{prefix}...{key[-4:]}"


def is_key(text: str, prefixes: Sequence[str]) -> bool:
    """Say whether `text` looks like a key of ours."""
    return len(text) >= MIN_KEY_LETTERS and text.startswith(tuple(prefixes))


def is_id(text: str) -> bool:
    """Say whether `text` looks like the id of a key."""
    return _is_id(text) is not None


def is_digest(text: str) -> bool:
    """Say whether `text` looks like the digest of a key."""
    return _is_digest(text) is not None
