"""The first so many names that any process of a role has met; all processes agree on them.

They stand in a file, so that a hundred processes make no more series of them than one does.
"""

from __future__ import annotations

import fcntl
from pathlib import Path


class FirstNames:
    """Lets through the first names, and calls the rest something else."""

    def __init__(self, path: Path | None, *, most: int, rest: str) -> None:
        """Share the list in the file `path`; without one this process has its own."""
        self._path = path
        self._most = most
        self._rest = rest
        self._listed: frozenset[str] = frozenset()
        self._known: dict[str, str] = {}

    def of(self, name: str) -> str:
        """Say what to call this one."""
        known = self._known.get(name)
        if known is not None:
            return known
        own = _one_line(name)
        if own not in self._listed and len(self._listed) < self._most:
            self._listed |= frozenset(self._agreed(own))
        if own not in self._listed:
            return self._rest
        self._known[name] = own
        return own

    def _agreed(self, own: str) -> list[str]:
        """Add a name to the list if there is room, and read all of it."""
        if self._path is None:
            return [own]
        with self._path.open("a+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            listed = file.read().splitlines()
            if own not in listed and len(listed) < self._most:
                file.write(f"{own}\n")
                listed.append(own)
        return listed


def _one_line(name: str) -> str:
    return " ".join(name.split()) or "?"
