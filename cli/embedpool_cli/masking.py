"""Secrets as a terminal may show them. Pure."""

from __future__ import annotations

import re
from typing import Final

SHORTEST_SHOWN_CHARS: Final = 16
SHOWN_CHARS: Final = 4
_HOST: Final = re.compile(r"([\w.-]*|\[[0-9a-fA-F:.]+\])(:\d{1,5})?")


def masked(secret: str) -> str:
    """Show enough to tell two keys apart: the last four characters, of short secrets none."""
    if len(secret) < SHORTEST_SHOWN_CHARS:
        return "…"
    return f"{'sk-' if secret.startswith('sk-') else ''}…{secret[-SHOWN_CHARS:]}"


def bare_address(url: str) -> str:
    """Show where a URL leads, without the user, the password and the query it may hold."""
    scheme, separator, rest = url.partition("://")
    where = rest.partition("/")[0].partition("?")[0].partition("#")[0]
    # An @ further right belongs to a password with a slash in it: nothing is where it seems.
    if not separator or "@" in rest[len(where) :]:
        return "…"
    hosts = where.rpartition("@")[2]
    if not all(_HOST.fullmatch(host) for host in hosts.split(",")):
        return "…"
    path = rest[len(where) :].partition("?")[0].partition("#")[0]
    return f"{scheme}://{hosts}{path}"
