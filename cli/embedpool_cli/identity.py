"""Names for processes."""

from __future__ import annotations

import secrets


def fresh_id(kind: str) -> str:
    """Name a process as none was ever named; without a colon, at which names in Redis are split."""
    return f"{kind}-{secrets.token_hex(6)}"
