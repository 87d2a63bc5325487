"""Secrets as a terminal may show them. Pure."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

SHORTEST_SHOWN_CHARS: Final = 16
SHOWN_CHARS: Final = 4


def masked(secret: str) -> str:
    """Show enough to tell two keys apart: the last four characters, of short secrets none."""
    if len(secret) < SHORTEST_SHOWN_CHARS:
        return "…"
    return f"{'sk-' if secret.startswith('sk-') else ''}…{secret[-SHOWN_CHARS:]}"


def bare_address(url: str) -> str:
    """Show where a URL leads, without the user, the password and the query it may hold."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "…"
    if not parts.scheme:
        return "…"
    # Several hosts (Sentinel) are no hostname for urlsplit; what follows the last @ is theirs.
    where = parts.netloc.rpartition("@")[2] if "," in parts.netloc else host
    return f"{parts.scheme}://{where}{f':{port}' if port and where == host else ''}{parts.path}"
