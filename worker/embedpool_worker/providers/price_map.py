"""LiteLLM's price map, read as data from the installed package without importing it."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

PRICE_FILE: Final = "model_prices_and_context_window_backup.json"
PICO: Final = 10**12


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceEntry:
    """What LiteLLM knows about one embedding model."""

    model: str  # the key in the map: with the provider's prefix, or without
    provider: str  # as in `provider/model`
    max_input_tokens: int | None = None  # per input
    output_vector_size: int | None = None  # native dimensions
    input_cost_per_token_pico_usd: int = 0


class _Row(msgspec.Struct):
    """The fields we read; numbers stay text, so that 2e-08 is exactly that."""

    mode: str | None = None
    litellm_provider: str = ""
    max_input_tokens: int | str | None = None
    output_vector_size: int | None = None
    input_cost_per_token: Decimal | None = None


def price_map() -> Mapping[str, PriceEntry]:
    """Every embedding model in LiteLLM's map, by its name there; empty without LiteLLM."""
    # find_spec does not run the package: importing it would take seconds.
    spec = importlib.util.find_spec("litellm")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / PRICE_FILE
        if path.is_file():
            return entries_from(path.read_bytes())
    return {}


def entries_from(blob: bytes) -> dict[str, PriceEntry]:
    """Read a price map; entries of other modes, and those that cannot be read, are left out."""
    entries: dict[str, PriceEntry] = {}
    for name, raw in msgspec.json.decode(blob, type=dict[str, msgspec.Raw]).items():
        if b"embedding" not in bytes(raw):
            continue
        try:
            row = msgspec.json.decode(raw, type=_Row)
        except (msgspec.DecodeError, InvalidOperation):
            continue
        if row.mode == "embedding":
            entries[name] = _entry(name, row)
    return entries


def _entry(name: str, row: _Row) -> PriceEntry:
    limit = row.max_input_tokens
    return PriceEntry(
        model=name,
        provider=_provider(row.litellm_provider),
        max_input_tokens=limit if isinstance(limit, int) else None,
        output_vector_size=row.output_vector_size,
        input_cost_per_token_pico_usd=int((row.input_cost_per_token or Decimal(0)) * PICO),
    )


def _provider(listed: str) -> str:
    """`vertex_ai-embedding-models` is the map's name for what callers write as `vertex_ai/`."""
    return listed.removesuffix("-embedding-models").removesuffix("-language-models")
