"""What each provider takes in one call, and what its wire format knows. Pure.

Two tables. `TRAITS` says by provider how it is spoken to; `LIMITS` says by provider and model how
much it takes, most specific row first. Numbers are the providers' published ones (2026); a
deployment's `model_info` overrides them, and what a provider refuses is learned on top.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from embedpool_shared.catalog import ANY_DIMENSIONS
from embedpool_worker.caps import Caps
from embedpool_worker.deployments import Adapter

if TYPE_CHECKING:
    from collections.abc import Mapping

CL100K: Final = "cl100k_base"
HEADROOM: Final = 0.9
"""Of a cap on a sum, where our tokenizer is not the provider's; never of a cap on one item."""
MIB: Final = 1024 * 1024

Dimensions = tuple[int, ...] | str
"""Sizes a model can be asked for besides its own, `ANY_DIMENSIONS`, or () for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """How a provider is spoken to."""

    adapter: Adapter = Adapter.LITELLM
    env_keys: tuple[str, ...] = ()  # where its credential is looked for, first one set wins
    api_base: str | None = None  # where it lives; None: the adapter knows, or config must say
    takes_token_ids: bool = False  # shares OpenAI's vocabulary
    merges_body: bool = False  # unknown parameters can be merged into its JSON body
    params: tuple[str, ...] = ()  # provider parameters it knows
    default_params: Mapping[str, str] = field(default_factory=dict)  # where the caller is silent
    kind_param: str = "input_type"  # its own name for what the vectors are for
    kinds: Mapping[str, str] = field(default_factory=dict)  # other providers' words for its kinds
    dimensions_param: str = "dimensions"  # its own name, where LiteLLM does not map ours
    number_format: str | None = None  # LiteLLM's `encoding_format`; None: the field is left out
    reads_media_in_text: bool = False  # LiteLLM takes texts such as `data:…,…` for pictures
    reports_usage: bool = True  # False: the count in the answer is LiteLLM's own guess


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """One row: what the models of `provider` that match `model` take."""

    provider: str  # "*": any
    model: str = "*"  # shell pattern over the provider's own name, lower case
    items: int
    item_tokens: int = 8_192
    call_tokens: int | None = None
    call_bytes: int | None = None
    dimensions: Dimensions = ()
    encoding: str = ""  # tokenizer that counts exactly, "" where we have none


def _wire(*env_keys: str, api_base: str | None = None, token_ids: bool = False) -> Traits:
    return Traits(
        adapter=Adapter.OPENAI_WIRE,
        env_keys=env_keys,
        api_base=api_base,
        takes_token_ids=token_ids,
        merges_body=True,
    )


def _like_openai(*env_keys: str, **more: Mapping[str, str] | str) -> Traits:
    traits = Traits(env_keys=env_keys, merges_body=True, number_format="float")
    return replace(traits, **more)  # type: ignore[arg-type]  # dataclasses.replace is not generic


_COHERE_KINDS: Final = {
    "query": "search_query",
    "document": "search_document",
    "passage": "search_document",
}
_GOOGLE_KINDS: Final = {
    "query": "RETRIEVAL_QUERY",
    "search_query": "RETRIEVAL_QUERY",
    "document": "RETRIEVAL_DOCUMENT",
    "passage": "RETRIEVAL_DOCUMENT",
    "search_document": "RETRIEVAL_DOCUMENT",
    "classification": "CLASSIFICATION",
    "clustering": "CLUSTERING",
}
_JINA_KINDS: Final = {
    "query": "retrieval.query",
    "search_query": "retrieval.query",
    "document": "retrieval.passage",
    "passage": "retrieval.passage",
    "search_document": "retrieval.passage",
    "clustering": "separation",
}
_COHERE: Final = Traits(
    env_keys=("COHERE_API_KEY", "CO_API_KEY"),
    params=("input_type", "truncate"),
    default_params={"input_type": "search_document"},
    kinds=_COHERE_KINDS,
    number_format="float",
    reads_media_in_text=True,
)
_GOOGLE: Final = Traits(
    params=("task_type", "input_type", "title"),
    kind_param="task_type",
    kinds=_GOOGLE_KINDS,
    reads_media_in_text=True,
)

TRAITS: Final[Mapping[str, Traits]] = {
    "local": Traits(adapter=Adapter.LOCAL),
    "openai": _wire("OPENAI_API_KEY", api_base="https://api.openai.com/v1", token_ids=True),
    "azure": _wire("AZURE_API_KEY", token_ids=True),
    "openai_like": _wire("OPENAI_LIKE_API_KEY"),
    "hosted_vllm": _wire("HOSTED_VLLM_API_KEY"),
    "infinity": _wire("INFINITY_API_KEY"),
    "tei": _wire("TEI_API_KEY"),
    "lm_studio": _wire("LM_STUDIO_API_KEY"),
    "siliconflow": _wire("SILICONFLOW_API_KEY", api_base="https://api.siliconflow.cn/v1"),
    "cohere": _COHERE,
    "bedrock": replace(
        _COHERE,
        env_keys=("AWS_BEARER_TOKEN_BEDROCK", "AWS_ACCESS_KEY_ID"),
        params=("input_type", "truncate", "normalize"),
    ),
    "sagemaker": Traits(env_keys=("AWS_ACCESS_KEY_ID",), reports_usage=False),
    "oci": replace(_COHERE, env_keys=("OCI_KEY", "OCI_KEY_FILE"), number_format=None),
    "vertex_ai": replace(
        _GOOGLE, env_keys=("GOOGLE_APPLICATION_CREDENTIALS", "VERTEXAI_CREDENTIALS")
    ),
    "gemini": replace(_GOOGLE, env_keys=("GEMINI_API_KEY", "GOOGLE_API_KEY")),
    # Voyage refuses "float": leaving the field out is how it is asked for numbers.
    "voyage": Traits(
        env_keys=("VOYAGE_API_KEY",),
        params=("input_type", "truncation"),
        kinds={"search_query": "query", "search_document": "document", "passage": "document"},
    ),
    "mistral": _like_openai("MISTRAL_API_KEY", dimensions_param="output_dimension"),
    "jina_ai": Traits(
        env_keys=("JINA_AI_API_KEY", "JINA_API_KEY"),
        params=("task", "input_type", "truncate"),
        kind_param="task",
        kinds=_JINA_KINDS,
        reads_media_in_text=True,
    ),
    "dashscope": Traits(env_keys=("DASHSCOPE_API_KEY",)),
    "huggingface": Traits(env_keys=("HUGGINGFACE_API_KEY", "HF_TOKEN"), reports_usage=False),
    "ollama": Traits(env_keys=("OLLAMA_API_KEY",), params=("truncate",)),
    "together_ai": _like_openai("TOGETHERAI_API_KEY", "TOGETHER_AI_API_KEY"),
    # LiteLLM would send an `extra_body` of ours on as a field of that name.
    "nvidia_nim": Traits(
        env_keys=("NVIDIA_NIM_API_KEY",),
        params=("input_type", "truncate"),
        default_params={"input_type": "passage"},
        kinds={"search_query": "query", "search_document": "passage", "document": "passage"},
        number_format="float",
    ),
    # LiteLLM refuses to send it any number format; without one it answers numbers.
    "fireworks_ai": Traits(
        env_keys=("FIREWORKS_AI_API_KEY", "FIREWORKS_API_KEY"), merges_body=True
    ),
    "nebius": _like_openai("NEBIUS_API_KEY"),
    "databricks": Traits(env_keys=("DATABRICKS_API_KEY",)),
    "watsonx": Traits(env_keys=("WATSONX_APIKEY", "WATSONX_API_KEY")),
    "azure_ai": Traits(env_keys=("AZURE_AI_API_KEY",), number_format="float"),
    "volcengine": Traits(env_keys=("VOLCENGINE_API_KEY", "ARK_API_KEY")),
    "openrouter": Traits(env_keys=("OPENROUTER_API_KEY",)),
}
UNKNOWN: Final = Traits()
"""A provider that only LiteLLM knows."""

# fmt: off
LIMITS: Final[tuple[Limits, ...]] = (
    Limits(provider="local", items=512, item_tokens=8_192, dimensions=(128, 64)),
    # OpenAI's own models, also behind somebody's gateway; packed to 8191, 8192 travels alone.
    Limits(provider="openai", model="text-embedding-3-*", items=2_048, item_tokens=8_191,
           call_tokens=300_000, dimensions=ANY_DIMENSIONS, encoding=CL100K),
    Limits(provider="openai", model="text-embedding-ada-002*", items=2_048, item_tokens=8_191,
           call_tokens=300_000, encoding=CL100K),
    # Azure names deployments as it likes, so the model's name says nothing for certain.
    Limits(provider="azure", model="*ada-002*", items=2_048, item_tokens=8_191,
           call_tokens=300_000, encoding=CL100K),
    Limits(provider="azure", items=2_048, item_tokens=8_191, call_tokens=300_000,
           dimensions=ANY_DIMENSIONS, encoding=CL100K),
    Limits(provider="cohere", model="*v[45]*", items=96, item_tokens=128_000,
           dimensions=(256, 512, 1_024, 1_536)),
    Limits(provider="cohere", items=96, item_tokens=512),
    # One text per HTTP call; the adapter sends them side by side.
    Limits(provider="bedrock", model="*titan-embed-text-v2*", items=1,
           dimensions=(256, 512, 1_024)),
    Limits(provider="bedrock", model="*cohere.embed-v4*", items=96, item_tokens=128_000,
           dimensions=(256, 512, 1_024, 1_536)),
    Limits(provider="bedrock", model="*cohere*", items=96, item_tokens=512),
    Limits(provider="bedrock", items=1),
    Limits(provider="vertex_ai", model="gemini-embedding*", items=1, item_tokens=2_048,
           call_tokens=20_000, dimensions=ANY_DIMENSIONS),
    Limits(provider="vertex_ai", items=250, item_tokens=2_048, call_tokens=20_000,
           dimensions=ANY_DIMENSIONS),
    Limits(provider="gemini", model="*embedding-001", items=100, item_tokens=2_048,
           call_bytes=4 * MIB, dimensions=ANY_DIMENSIONS),
    Limits(provider="gemini", items=100, call_bytes=4 * MIB, dimensions=ANY_DIMENSIONS),
    Limits(provider="voyage", model="voyage-[3-9]*-lite", items=1_000, item_tokens=32_000,
           call_tokens=1_000_000, dimensions=(256, 512, 1_024, 2_048)),
    Limits(provider="voyage", model="voyage-3.5", items=1_000, item_tokens=32_000,
           call_tokens=320_000, dimensions=(256, 512, 1_024, 2_048)),
    Limits(provider="voyage", model="voyage-4", items=1_000, item_tokens=32_000,
           call_tokens=320_000, dimensions=(256, 512, 1_024, 2_048)),
    Limits(provider="voyage", model="voyage-[34]-large", items=1_000, item_tokens=32_000,
           call_tokens=120_000, dimensions=(256, 512, 1_024, 2_048)),
    Limits(provider="voyage", model="voyage-code-[34]", items=1_000, item_tokens=32_000,
           call_tokens=120_000, dimensions=(256, 512, 1_024, 2_048)),
    Limits(provider="voyage", items=1_000, item_tokens=16_000, call_tokens=120_000),
    Limits(provider="mistral", model="codestral*", items=128, call_tokens=16_384,
           dimensions=ANY_DIMENSIONS),
    Limits(provider="mistral", items=128, call_tokens=16_384),
    Limits(provider="jina_ai", model="*v[3-9]*", items=2_048, dimensions=ANY_DIMENSIONS),
    Limits(provider="jina_ai", items=2_048),
    Limits(provider="dashscope", items=10,
           dimensions=(64, 128, 256, 512, 768, 1_024, 1_536, 2_048)),
    Limits(provider="siliconflow", items=64),
    Limits(provider="oci", model="*v4*", items=96, item_tokens=128_000,
           dimensions=(256, 512, 1_024, 1_536)),
    Limits(provider="oci", items=96, item_tokens=512),
    Limits(provider="tei", items=32, dimensions=ANY_DIMENSIONS),
    Limits(provider="hosted_vllm", items=2_048, dimensions=ANY_DIMENSIONS),
    Limits(provider="infinity", items=2_048, dimensions=ANY_DIMENSIONS),
    # LiteLLM has no way to tell these a size.
    Limits(provider="volcengine", items=256),
    Limits(provider="databricks", items=150),
    Limits(provider="watsonx", items=512),
    Limits(provider="ollama", items=512),
    Limits(provider="lm_studio", items=512),
    Limits(provider="sagemaker", items=32),
    Limits(provider="huggingface", items=32),
    # Anybody else who speaks OpenAI's format; what is refused is learned.
    Limits(provider="*", items=512, call_tokens=100_000, dimensions=ANY_DIMENSIONS),
)
# fmt: on

_SHORT_DATE: Final = re.compile(r"(\d{4})-(\d{2})-\d{2}")
_FIRST_API_VERSION_OF_2048_ITEMS: Final = (2023, 7)
_ITEMS_BEFORE: Final = 16


def traits_for(provider: str, *, api_base: str | None = None) -> Traits:
    """How `provider` is spoken to; one at an address of its own need not share OpenAI's ids."""
    traits = TRAITS.get(provider, UNKNOWN)
    if provider == "openai" and api_base and urlsplit(api_base).hostname != "api.openai.com":
        return replace(traits, takes_token_ids=False)
    return traits


def limits_for(provider: str, upstream_model: str) -> Limits:
    """The most specific row that fits; the last one fits everything."""
    name = upstream_model.lower()
    return next(
        row for row in LIMITS if row.provider in {provider, "*"} and fnmatchcase(name, row.model)
    )


def caps_for(provider: str, upstream_model: str, *, api_version: str | None = None) -> Caps:
    """The caps to pack by: published ones, with headroom on sums we can only estimate."""
    row = limits_for(provider, upstream_model)
    return Caps(
        max_items=_azure_items(row.items, api_version) if provider == "azure" else row.items,
        max_item_tokens=row.item_tokens,
        max_call_tokens=None if row.call_tokens is None else packed_tokens(row.call_tokens, row),
        max_call_bytes=row.call_bytes,
    )


def packed_tokens(call_tokens: int, row: Limits) -> int:
    """How many of these tokens to pack into a call: fewer where we can only estimate."""
    return call_tokens if row.encoding else max(1, int(call_tokens * HEADROOM))


def _azure_items(items: int, api_version: str | None) -> int:
    found = _SHORT_DATE.match(api_version or "")
    if found and (int(found[1]), int(found[2])) < _FIRST_API_VERSION_OF_2048_ITEMS:
        return _ITEMS_BEFORE
    return items
