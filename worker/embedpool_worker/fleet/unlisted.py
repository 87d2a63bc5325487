"""Which providers and models can be served without being listed. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedpool_worker.deployments import Adapter
from embedpool_worker.providers.limits import TRAITS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from embedpool_worker.fleet.model_names import KnownModels


def providers_with_key(known: KnownModels, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Name every provider whose credential, and where it needs one whose address, is set."""
    listed = dict.fromkeys((*TRAITS, *(entry.provider for entry in known.embeddings.values())))
    return tuple(provider for provider in listed if _has_access(provider, environ))


def _has_access(provider: str, environ: Mapping[str, str]) -> bool:
    traits = TRAITS.get(provider)
    if traits is None:  # LiteLLM reads the key by itself, nearly always under this name
        return bool(environ.get(f"{provider.upper()}_API_KEY"))
    needs_address = traits.adapter is Adapter.OPENAI_WIRE and traits.api_base is None
    has_address = not needs_address or bool(environ.get(f"{provider.upper()}_API_BASE"))
    return has_address and any(environ.get(name) for name in traits.env_keys)


def models_of(provider: str, known: KnownModels) -> Iterator[tuple[str, str]]:
    """List a provider's embedding models: its own name, and the name in the price map."""
    for name, entry in known.embeddings.items():
        if entry.provider == provider:
            yield name.removeprefix(f"{provider}/"), name
