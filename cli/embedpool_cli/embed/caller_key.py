"""Where a caller's key is found: never among the arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from embedpool_cli.master_key import MASTER_KEY_NAMES, master_key

KEY_NAMES: Final = ("EMBEDPOOL_API_KEY", *MASTER_KEY_NAMES)


def caller_key(file: str | None, environ: Mapping[str, str]) -> str:
    """Read the key from `file`, else from the environment; "" where there is none.

    An open pool needs none. Raises `NotAsked`.
    """
    found = next((environ[name] for name in KEY_NAMES if environ.get(name, "").strip()), "")
    if file is None and not found:
        return ""
    return master_key(file, {MASTER_KEY_NAMES[0]: found})
