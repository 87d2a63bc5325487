"""The person or the script in front of a command that asks a running pool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TextIO

from embedpool_cli.tables import printable


class NotAsked(Exception):
    """Something on our side keeps the question from being asked."""


@dataclass(frozen=True, slots=True)
class Terminal:
    """Where answers go, where everything else goes, and where the operator's words come from."""

    out: TextIO
    errors: TextIO
    lines: TextIO
    is_interactive: bool

    def say(self, text: str) -> None:
        """Tell the operator something that is no part of the answer."""
        print(f"embedpool: {printable(text)}", file=self.errors, flush=True)

    def confirms(self, question: str) -> bool:
        """Ask, and wait for a yes."""
        print(f"{question} [y/N] ", end="", file=self.errors, flush=True)
        return self.line().lower() in {"y", "yes"}

    def line(self) -> str:
        """Read a line."""
        return self.lines.readline().strip()
