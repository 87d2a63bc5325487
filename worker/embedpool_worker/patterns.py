"""Model names with `*` in them. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

ANY: Final = "*"


@dataclass(frozen=True, slots=True)
class Pattern:
    """A model_name with `*` in it."""

    text: str

    @property
    def specificity(self) -> tuple[int, int]:
        """More letters first, then fewer stars."""
        stars = self.text.count(ANY)
        return (stars - len(self.text), stars)

    def captured(self, name: str) -> str | None:
        """What the first star stands for in `name`, None where the pattern does not fit."""
        found = re.fullmatch(
            "(.+)".join(re.escape(part) for part in self.text.split(ANY)), name, re.DOTALL
        )
        return found.group(1) if found else None

    def filled(self, capture: str) -> str:
        """Put `capture` where the first star is."""
        return self.text.replace(ANY, capture, 1)
