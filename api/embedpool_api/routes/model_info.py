"""What is known of each model, as LiteLLM shows it: limits, prices, caps; no credential."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from embedpool_api.accounts.money import in_dollars
from embedpool_api.routes.admin import AdminParts, anybody
from embedpool_shared.catalog import ModelCard
from embedpool_shared.errors import QueueUnavailable


class ModelDetails(BaseModel):
    """One model."""

    model_name: str
    litellm_params: dict[str, Any] = Field(description="Where it is served; no credential.")
    model_info: dict[str, Any] = Field(description="Its limits and its price.")


class ModelDetailsList(BaseModel):
    """All models the caller may use."""

    data: list[ModelDetails]


def model_info_router(parts: AdminParts) -> APIRouter:
    """Make `GET /model/info` and `/v1/model/info`."""
    router = APIRouter(tags=["models"])

    async def model_info(request: Request) -> ModelDetailsList:
        caller = await anybody(parts, request)
        catalog = parts.catalog()
        if catalog is None:
            raise QueueUnavailable(
                "No worker has said yet which models it serves; try again shortly"
            )
        cards = sorted((*catalog.models.values(), *catalog.wildcards), key=lambda card: card.name)
        aliases = _aliases(catalog.aliases)
        return ModelDetailsList(
            data=[
                _shown(card, aliases.get(card.name, []))
                for card in cards
                if caller.may_use(card.name)
            ]
        )

    router.add_api_route("/v1/model/info", model_info, summary="Look at the models' limits")
    router.add_api_route("/model/info", model_info, include_in_schema=False)
    return router


def _shown(card: ModelCard, aliases: list[str]) -> ModelDetails:
    sizes = card.dimensions_allowed
    return ModelDetails(
        model_name=card.name,
        litellm_params={
            "model": card.name,
            "custom_llm_provider": card.providers[0] if card.providers else None,
        },
        model_info={
            "id": card.name,
            "mode": "embedding",
            "aliases": aliases,
            "providers": list(card.providers),
            "has_credential": card.has_credential,
            "is_wildcard": card.is_wildcard,
            "max_input_tokens": card.max_item_tokens,
            "max_tokens": card.max_item_tokens,
            "max_request_tokens": card.max_request_tokens,
            "output_vector_size": card.dimensions,
            "output_vector_sizes": sizes if isinstance(sizes, str) else list(sizes),
            "input_cost_per_token": in_dollars(card.price_per_token_pico_usd),
            "output_cost_per_token": 0.0,
            "supported_openai_params": ["dimensions", "encoding_format", "user", *card.params],
            "counts_tokens_exactly": bool(card.encoding),
            "takes_token_ids": card.takes_token_ids,
            "max_items_per_call": card.max_items_per_call,
            "max_tokens_per_call": card.max_tokens_per_call,
            "max_bytes_per_call": card.max_bytes_per_call,
            "learned_caps": card.learned_caps,
        },
    )


def _aliases(aliases: Mapping[str, str]) -> dict[str, list[str]]:
    of: dict[str, list[str]] = {}
    for alias, name in sorted(aliases.items()):
        of.setdefault(name, []).append(alias)
    return of
