"""The protocol of lanes and accounts, as Lua: each file is one atomic step inside one hash slot.

A line `-- include <name>` stands for another file here: steps that share a rule share its text.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

_INCLUDE: Final = re.compile(r"^-- include (\w+)\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script and the digest Redis knows it by."""

    name: str
    source: str
    sha: str


@cache
def script(name: str) -> Script:
    """Read the script of that name from this folder, with what it includes."""
    source = _INCLUDE.sub(lambda found: _read(found[1]), _read(name))
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def _read(name: str) -> str:
    return resources.files(__name__).joinpath(f"{name}.lua").read_text("utf-8")
