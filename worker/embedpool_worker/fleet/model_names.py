"""What a LiteLLM model name says: whose model it is, and what the provider calls it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from embedpool_shared.errors import ConfigInvalid
from embedpool_worker.patterns import ANY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from embedpool_worker.providers.price_map import PriceEntry

LOCAL_NAMES: Final = frozenset({"wordllama/wordllama", "local/wordllama", "wordllama"})
WITHOUT_EMBEDDINGS: Final = frozenset(
    {
        "ai21",
        "anthropic",
        "anthropic_text",
        "assemblyai",
        "cerebras",
        "deepgram",
        "deepseek",
        "elevenlabs",
        "groq",
        "moonshot",
        "ollama_chat",
        "replicate",
        "sagemaker_chat",
        "xai",
    }
)
"""Providers that LiteLLM reaches and that sell no embeddings."""


@dataclass(frozen=True, slots=True)
class ModelPlace:
    """A provider and its own name for a model; the name may be a pattern."""

    provider: str
    model: str

    @property
    def full_name(self) -> str:
        """As LiteLLM writes it."""
        return f"{self.provider}/{self.model}"

    @property
    def is_pattern(self) -> bool:
        """Whether the name is filled in by what a caller asks for."""
        return ANY in self.model


@dataclass(frozen=True, slots=True)
class KnownModels:
    """LiteLLM's price map: its embedding models, and what everything else in it does."""

    embeddings: Mapping[str, PriceEntry]
    modes: Mapping[str, str]  # name → mode, of models that do not embed

    def entry(self, place: ModelPlace, base_model: str | None = None) -> PriceEntry | None:
        """Find the model, by its base model first."""
        for name in _spellings(place, base_model):
            if found := self.embeddings.get(name):
                return found
        return None

    def other_mode(self, place: ModelPlace, base_model: str | None = None) -> str | None:
        """What the model does if it does not embed; None if it embeds or is unknown."""
        if self.entry(place, base_model):
            return None
        modes = map(self.modes.get, _spellings(place, base_model))
        return next((mode for mode in modes if mode), None)

    def provider_of(self, name: str) -> str | None:
        """Whose model a name without a provider is; `""` for one that does not embed."""
        if found := self.embeddings.get(name):
            return found.provider
        return "" if name in self.modes else None


def _spellings(place: ModelPlace, base_model: str | None) -> list[str]:
    names = [place.full_name, place.model]
    if base_model:
        names = [base_model, base_model.partition("/")[2], *names]
    # Regions of Bedrock and of Azure: `us-east-1/amazon.titan…`, `eu/text-embedding-3-small`.
    return [name for name in (*names, names[-1].rpartition("/")[2]) if name]


def place_of(litellm_model: str, known: KnownModels, *, has_address: bool) -> ModelPlace | None:
    """Read `provider/model`, or a name the price map knows; None where no provider is named.

    A name nobody knows at an address of its own is taken for an OpenAI-compatible server's.
    Raises `ConfigInvalid` for a name that holds an address: LiteLLM would send the key there.
    """
    if "://" in litellm_model:
        raise ConfigInvalid("litellm_params.model holds an address: put that into api_base")
    if litellm_model in LOCAL_NAMES:
        return ModelPlace("local", "wordllama")
    if litellm_model == ANY:
        return ModelPlace(ANY, ANY)
    provider = known.provider_of(litellm_model)
    if provider:
        return ModelPlace(provider, litellm_model.removeprefix(f"{provider}/"))
    prefix, slash, rest = litellm_model.partition("/")
    if slash and prefix and rest:
        return ModelPlace(prefix, rest)
    return ModelPlace("openai", litellm_model) if has_address and not slash else None
