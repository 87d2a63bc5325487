"""What `embedpool serve` says once it serves. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Final

MAX_MODELS_SHOWN: Final = 5
PLACEHOLDER: Final = "MODEL"
TRY: Final = "try:"


def ready_text(url: str, models: Sequence[str], *, needs_key: bool) -> str:
    """Say in one line where we serve what, and how to try it; `models` may hold patterns."""
    named = [model for model in models if "*" not in model]
    curl = _curl(url, named[0] if named else PLACEHOLDER, needs_key=needs_key)
    return f"embedpool serves {_listed(models)} at {url}  {TRY} {curl}"


def _listed(models: Sequence[str]) -> str:
    shown = ", ".join(models[:MAX_MODELS_SHOWN]) or "no model yet"
    more = len(models) - MAX_MODELS_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def _curl(url: str, model: str, *, needs_key: bool) -> str:
    # Double quotes, so that the shell that pastes this fills in the key; we never print it.
    key = '-H "Authorization: Bearer $EMBEDPOOL_MASTER_KEY" ' if needs_key else ""
    body = json.dumps({"model": model, "input": "Hello, world"}, ensure_ascii=False)
    return (
        f"curl {shlex.quote(f'{url}/v1/embeddings')} {key}"
        f"-H 'Content-Type: application/json' -d {shlex.quote(body)}"
    )
