"""Where commands that ask a running pool find its master key: never among their arguments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from embedpool_cli.terminal import NotAsked

MASTER_KEY_NAMES: Final = ("EMBEDPOOL_MASTER_KEY", "LITELLM_MASTER_KEY")


def master_key(file: str | None, environ: Mapping[str, str]) -> str:
    """Read the master key from `file`, else from the environment; raises `NotAsked`."""
    if file is None:
        key = next((environ[name] for name in MASTER_KEY_NAMES if environ.get(name)), "")
    else:
        key = _contents(file)
    key = key.strip()
    if not key:
        raise NotAsked(
            f"{file} is empty: it should hold the master key"
            if file
            else "the master key is needed: set EMBEDPOOL_MASTER_KEY, or name a file that holds it "
            "with --master-key-file"
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise NotAsked("that is no master key: it has blanks or letters that HTTP cannot carry")
    return key


def _contents(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise NotAsked(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise NotAsked(f"{file} is no text: it should hold the master key") from None
