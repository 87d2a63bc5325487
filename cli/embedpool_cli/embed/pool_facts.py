"""What is asked of a pool before a run: which model, and what a token costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from embedpool_cli.embed.budget import PICO
from embedpool_cli.pool_client import PoolClient, Refused
from embedpool_cli.terminal import NotAsked

UNKNOWN_PATH: Final = 404
MODEL_NOT_FOUND: Final = "does not exist"
MAX_MODELS_SAID: Final = 10


@dataclass(frozen=True, slots=True)
class Facts:
    """One model, as the pool knows it."""

    model: str
    price_per_token_pico_usd: float | None  # None: the pool does not know


def facts_of(pool: PoolClient, model: str | None) -> Facts:
    """Ask about `model`, or the only one there is; raises `Refused`, `NotAsked`, `Unreachable`.

    A server that has embeddings and none of these routes is taken at its word.
    """
    if model is None:
        model = _only_model(pool)
    else:
        _check(pool, model)
    try:
        cards = pool.get("/model/info").get("data", ())
    except Refused:
        return Facts(model, None)
    known = (card for card in cards if isinstance(card, dict) and _is_of(card, model))
    return Facts(model, next(map(_price, known), None))


def _only_model(pool: PoolClient) -> str:
    listed = pool.get("/v1/models")
    models = [str(card.get("id")) for card in listed.get("data", ()) if isinstance(card, dict)]
    if len(models) == 1 and not listed.get("wildcards"):
        return models[0]
    said = ", ".join(models[:MAX_MODELS_SAID]) or "none by name"
    raise NotAsked(f"say which model with --model; the pool serves {said}")


def _check(pool: PoolClient, model: str) -> None:
    try:
        pool.get(f"/v1/models/{quote(model, safe='')}")
    except Refused as refusal:
        if refusal.status != UNKNOWN_PATH or MODEL_NOT_FOUND in refusal.message:
            raise


def _is_of(card: Mapping[str, Any], model: str) -> bool:
    info = card.get("model_info")
    aliases = info.get("aliases", ()) if isinstance(info, dict) else ()
    return model == card.get("model_name") or model in aliases


def _price(card: Mapping[str, Any]) -> float | None:
    price = card["model_info"].get("input_cost_per_token")
    return price * PICO if isinstance(price, (int, float)) and price > 0 else None
