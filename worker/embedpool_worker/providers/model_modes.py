"""What the models of LiteLLM's price map do that do not embed, read as data."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from embedpool_worker.providers.price_map import PRICE_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping

EMBEDDING: Final = "embedding"
IMAGES: Final = "image_generation"


class _Row(msgspec.Struct):
    mode: str | None = None


_rows: Final = msgspec.json.Decoder(dict[str, _Row])


def other_modes() -> Mapping[str, str]:
    """Name → mode of every model that does not embed; empty if LiteLLM is not installed."""
    spec = importlib.util.find_spec("litellm")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / PRICE_FILE
        if path.is_file():
            return modes_from(path.read_bytes())
    return {}


def modes_from(blob: bytes) -> dict[str, str]:
    """Read a price map; a map that cannot be read says nothing."""
    try:
        rows = _rows.decode(blob)
    except msgspec.DecodeError:
        return {}
    modes = {name: row.mode for name, row in rows.items() if row.mode and row.mode != EMBEDDING}
    for name in [name for name, mode in modes.items() if mode == IMAGES]:
        # The map lists image models by price: azure/hd/1024-x-1024/dall-e-3 is dall-e-3.
        modes.setdefault(name.rpartition("/")[2], IMAGES)
    return modes
