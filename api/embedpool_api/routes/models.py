"""The models a caller may use, as OpenAI lists them."""

from collections.abc import Iterable
from datetime import UTC, datetime

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from embedpool_api.callers import Caller, require_own
from embedpool_api.middleware import HEADERS
from embedpool_api.parts import ApiParts
from embedpool_shared.catalog import Catalog, ModelCard
from embedpool_shared.embedding.models import resolve
from embedpool_shared.errors import ModelNotFound, QueueUnavailable


class ModelObject(BaseModel):
    """One model."""

    id: str = Field(examples=["text-embedding-3-small"])
    object: str = "model"
    created: int = Field(description="When this api process started, in Unix seconds.")
    owned_by: str = Field(description="The first provider that serves it.", examples=["openai"])
    dimensions: int | None = Field(description="The length of its vectors, where known.")
    max_input_tokens: int = Field(description="How long one input may be.")


class ModelList(BaseModel):
    """All models the caller may use."""

    object: str = "list"
    data: list[ModelObject]
    wildcards: list[str] = Field(description="Patterns of further names that are served.")


def models_router(parts: ApiParts) -> APIRouter:
    """Make `GET /v1/models`, `/models` and `/v1/models/{id}`."""
    router = APIRouter(tags=["models"])
    created = int(datetime.now(UTC).timestamp())

    async def list_models(request: Request) -> ModelList:
        caller = await parts.identify(request.scope[HEADERS])
        require_own(caller)
        catalog = _known(parts)
        cards = _usable(catalog.models.values(), caller)
        wildcards = _usable(catalog.wildcards, caller)
        return ModelList(
            data=[_shown(card, card.name, created) for card in cards],
            wildcards=[card.name for card in wildcards],
        )

    async def get_model(request: Request, model_id: str) -> ModelObject:
        caller = await parts.identify(request.scope[HEADERS])
        require_own(caller)
        found = resolve(_known(parts), model_id)
        if not any(map(caller.may_use, (found.lane, found.model, model_id))):
            raise _hidden(model_id)
        return _shown(found.card, found.model, created)

    router.add_api_route("/v1/models", list_models, summary="List the models you may use")
    router.add_api_route("/models", list_models, include_in_schema=False)
    router.add_api_route("/v1/models/{model_id:path}", get_model, summary="Look at one model")
    return router


def _known(parts: ApiParts) -> Catalog:
    catalog = parts.catalog()
    if catalog is None:
        raise QueueUnavailable("No worker has said yet which models it serves; try again shortly")
    return catalog


def _usable(cards: Iterable[ModelCard], caller: Caller) -> list[ModelCard]:
    return sorted((card for card in cards if caller.may_use(card.name)), key=lambda card: card.name)


def _shown(card: ModelCard, name: str, created: int) -> ModelObject:
    return ModelObject(
        id=name,
        created=created,
        owned_by=card.providers[0] if card.providers else "embedpool",
        dimensions=card.dimensions,
        max_input_tokens=card.max_item_tokens,
    )


def _hidden(model_id: str) -> ModelNotFound:
    """Say of a model this caller may not use what is said of one that does not exist."""
    return ModelNotFound(
        f"The model `{model_id}` does not exist or you do not have access to it.", param="model"
    )
