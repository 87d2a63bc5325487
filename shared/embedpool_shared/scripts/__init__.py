"""The protocol of a lane, as Lua: each file is one atomic step inside one hash slot."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script and the digest Redis knows it by."""

    name: str
    source: str
    sha: str


@cache
def script(name: str) -> Script:
    """Read the script of that name from this folder."""
    source = resources.files(__name__).joinpath(f"{name}.lua").read_text("utf-8")
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())
