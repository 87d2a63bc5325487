"""The sections of LiteLLM's proxy configuration, and the settings in them that we use. Pure.

They accept everything, so that an existing file starts unchanged; `notices` lists what is
not used here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)
from typing_extensions import override

OPTION_PREFIXES: Final = ("aws_", "azure_", "oci_", "vertex_", "watsonx_")
OPTION_NAMES: Final = frozenset(
    {
        "client_id",
        "client_secret",
        "model_id",
        "organization",
        "project",
        "project_id",
        "region_name",
        "space_id",
        "tenant_id",
        "token",
    }
)
"""With the prefixes: settings of one provider, handed to its adapter under LiteLLM's names."""


def _quoted(value: object) -> object:
    if isinstance(value, int | float):
        raise ValueError("is read as a number by YAML: put it in quotes")  # noqa: TRY004
    return value


def _text(value: object) -> object:
    return str(value) if isinstance(value, int) else value


Credential = Annotated[SecretStr, BeforeValidator(_quoted)]


class Theirs(BaseModel):
    """A part of the file that is LiteLLM's: accepts everything, shows nothing it does not know."""

    model_config = ConfigDict(
        frozen=True, extra="allow", use_attribute_docstrings=True, hide_input_in_errors=True
    )

    @override
    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Leave out the settings we do not know: any of them may be a secret."""
        for name, field in type(self).model_fields.items():
            if field.repr:
                yield name, getattr(self, name)


class LitellmParams(Theirs):
    """How one deployment is reached."""

    model: str = Field(min_length=1)
    """`provider/model`, or a name that LiteLLM's price map knows."""
    custom_llm_provider: str | None = None
    """The provider, where `model` is only its own name for the model."""
    api_key: Credential | None = None
    """The provider key. Empty: it was named, but its environment variable is not set."""
    api_keys: tuple[Credential, ...] = ()
    """Several provider keys of one deployment."""
    api_base: str | None = Field(
        None, validation_alias=AliasChoices("api_base", "base_url"), repr=False
    )
    """Where the provider listens; may hold credentials, so it is masked when shown."""
    api_version: str | None = None
    """Azure's version of the API."""
    rpm: int | None = Field(None, ge=1)
    """Requests a minute, for each key."""
    tpm: int | None = Field(None, ge=1)
    """Tokens a minute, for each key."""
    timeout: float | None = Field(None, gt=0)
    """Seconds one call may take."""
    dimensions: int | None = Field(None, ge=1)
    """The size asked for when the caller asks for none."""
    passthrough: bool = False
    """Callers' own provider keys may go to this api_base."""
    input_cost_per_token: float | None = Field(None, ge=0)
    """The price in dollars, where model_info has none."""

    @model_validator(mode="before")
    @classmethod
    def _with_provider(cls, given: Any) -> Any:
        """Write both names into `model`, which is where everybody looks for them."""
        if not isinstance(given, Mapping):
            return given
        provider, model = given.get("custom_llm_provider"), given.get("model")
        if not (provider and isinstance(provider, str) and isinstance(model, str)):
            return given
        own_name = model.removeprefix(f"{provider}/")
        return {**given, "model": f"{provider}/{own_name}"}

    @property
    def names_key(self) -> bool:
        """Whether the file says which key to use, even if it is missing."""
        return self.api_key is not None or "api_keys" in self.model_fields_set

    def secrets(self) -> tuple[str, ...]:
        """The provider keys, in order, each once."""
        keys = ([] if self.api_key is None else [self.api_key]) + list(self.api_keys)
        return tuple(dict.fromkeys(key.get_secret_value() for key in keys if key))

    def options(self) -> Mapping[str, str]:
        """The provider's own settings (aws_region_name, vertex_project, organization …)."""
        extra = self.model_extra or {}
        return {
            name: json.dumps(value) if isinstance(value, dict) else str(value)
            for name, value in extra.items()
            if is_option(name) and not isinstance(value, list)
        }


class ModelInfo(Theirs):
    """What the operator knows about a deployment, over what we know."""

    id: Annotated[str, BeforeValidator(_text)] | None = None
    """The deployment's name in metrics and logs."""
    mode: str | None = None
    """`embedding`, or what else the model does."""
    blocked: bool = False
    """The deployment is left out."""
    base_model: str | None = None
    """The model behind a deployment's own name, for prices, limits and dimensions."""
    max_input_tokens: int | None = Field(None, ge=1)
    """LiteLLM's name for max_tokens_per_item."""
    input_cost_per_token: float | None = Field(None, ge=0)
    """The price in dollars."""
    max_items_per_call: int | None = Field(None, ge=1)
    """Inputs one call may have."""
    max_tokens_per_item: int | None = Field(None, ge=1)
    """Tokens one input may have."""
    max_tokens_per_call: int | None = Field(None, ge=1)
    """Tokens one call may have."""
    max_bytes_per_call: int | None = Field(None, ge=1)
    """Bytes one call may have."""
    output_dimensions: int | None = Field(
        None, ge=1, validation_alias=AliasChoices("output_dimensions", "output_vector_size")
    )
    """The model's own vector size."""
    native_token_ids: bool = False
    """The server reads token ids in OpenAI's vocabulary (or token_encoding's): send them raw."""
    token_encoding: str | None = None
    """The vocabulary of callers' token ids; cl100k_base without."""


class ModelEntry(Theirs):
    """One deployment of one model group."""

    model_name: str = Field(min_length=1)
    """What callers ask for; may be a pattern with `*`."""
    litellm_params: LitellmParams
    """How it is reached."""
    model_info: ModelInfo = ModelInfo()
    """What is known about it."""


class CacheParams(Theirs):
    """LiteLLM's cache settings."""

    ttl: float | None = Field(None, gt=0)
    """Seconds a vector is kept."""


class LitellmSettings(Theirs):
    """LiteLLM's module settings."""

    drop_params: bool = False
    """Drop parameters a model does not know, instead of refusing the request."""
    num_retries: int | None = Field(None, ge=0)
    """Further calls after the first one failed."""
    request_timeout: float | None = Field(None, gt=0)
    """Seconds an answer is wanted when the client does not say."""
    cache: bool = False
    """Keep vectors."""
    cache_params: CacheParams = CacheParams()
    """How to keep them."""


class AliasTarget(Theirs):
    """LiteLLM's long form of an alias."""

    model: str
    """The model meant."""


class RouterSettings(Theirs):
    """LiteLLM's router settings."""

    num_retries: int | None = Field(None, ge=0)
    """Further calls after the first one failed; wins over litellm_settings."""
    cooldown_time: float = Field(5.0, ge=0)
    """Seconds a key rests when the provider does not say how long."""
    allowed_fails: int = Field(3, ge=0)
    """Failures in a row before a key rests."""
    model_group_alias: dict[str, str | AliasTarget] = {}
    """Other names of models."""

    def aliases(self) -> dict[str, str]:
        """Alias → the name it stands for, as written."""
        return {
            alias: target if isinstance(target, str) else target.model
            for alias, target in self.model_group_alias.items()
        }


class GeneralSettings(Theirs):
    """LiteLLM's server settings."""

    master_key: Credential | None = None
    """The key that may do everything; without one the pool is open, and only on loopback."""


def is_option(name: str) -> bool:
    """Whether a litellm_params setting belongs to one provider's adapter."""
    return name in OPTION_NAMES or name.startswith(OPTION_PREFIXES)
