"""Models to resolve and to fit requests to."""

from __future__ import annotations

from typing import Any

from embedpool_shared.catalog import ANY_DIMENSIONS, Catalog, ModelCard
from embedpool_shared.embedding.models import Resolved, resolve

OPENAI = ModelCard(
    name="text-embedding-3-small",
    providers=("openai", "azure-eu"),
    dimensions=1_536,
    dimensions_allowed=ANY_DIMENSIONS,
    encoding="cl100k_base",
    takes_token_ids=True,
    merges_body=True,
)
LOCAL = ModelCard(
    name="wordllama",
    providers=("local",),
    dimensions=256,
    dimensions_allowed=(128, 64),
)
COHERE = ModelCard(
    name="cohere/embed-english-v3.0",
    providers=("cohere",),
    dimensions=1_024,
    params=("input_type", "truncate"),
)
ANY_MISTRAL = ModelCard(name="mistral/*", providers=("mistral",), is_wildcard=True)
CATALOG = Catalog(
    models={card.name: card for card in (OPENAI, LOCAL, COHERE)},
    aliases={"default": "wordllama", "small": "text-embedding-3-small", "mine": "mistral/embed"},
    wildcards=(ANY_MISTRAL,),
    providers=("openai", "azure-eu", "local", "cohere", "mistral"),
)


def found(name: str = "text-embedding-3-small", **changes: Any) -> Resolved:
    """Resolve `name`, its card changed for the test."""
    resolved = resolve(CATALOG, name)
    fields = {field: getattr(resolved.card, field) for field in ModelCard.__struct_fields__}
    return resolved._replace(card=ModelCard(**(fields | changes)))
