"""The places that serve models: provider, address, credentials, caps. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from embedpool_worker.caps import Caps
from embedpool_worker.patterns import Pattern


class Adapter(StrEnum):
    """Which adapter speaks with a deployment."""

    LOCAL = "local"  # wordllama, in this process
    OPENAI_WIRE = "openai_wire"  # our lean client for the OpenAI wire format
    LITELLM = "litellm"  # everything else


@dataclass(frozen=True, slots=True)
class ProviderKey:
    """A provider credential; named by its id, never by its secret."""

    id: str  # stable, printable: deployment and position, never derived from the secret
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One place that serves one model."""

    id: str  # unique, printable, fit for a metric label
    provider: str  # as in `model@provider` and in `[provider] …` of error messages
    upstream_model: str  # the provider's own name, without the provider's prefix
    adapter: Adapter
    caps: Caps
    keys: tuple[ProviderKey, ...] = ()  # empty: the provider wants none
    api_base: str | None = field(default=None, repr=False)  # may hold credentials
    api_version: str | None = None
    timeout_s: float = 60.0
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Operator's further settings by LiteLLM's names (aws_region_name, organization …)."""
    native_dimensions: int | None = None
    forwards_dimensions: bool = True  # the native size is never forwarded
    encoding: str = ""  # tokenizer that counts exactly, "" where we have none
    merges_body: bool = False
    default_dimensions: int | None = None
    """Asked for when the caller names no size; None asks for nothing, so the native size comes."""
    rpm: int | None = None  # requests a minute, for each key
    tpm: int | None = None  # tokens a minute, for each key
    is_callable: bool = True  # False: its credential or its address is missing
    takes_own_keys: bool = False  # a caller's own provider key may go there
    is_callers_own: bool = False  # made for one such caller: its key is nobody else's
    pattern: str = ""  # of a wildcard: its model_name, with `*`; `upstream_model` is "" then
    target: str = ""  # … and the provider's own name, the `*` filled by what the caller wrote

    def upstream_of(self, model: str) -> str:
        """The provider's own name for what the caller calls `model`."""
        if not self.pattern:
            return self.upstream_model
        capture = Pattern(self.pattern).captured(model)
        return Pattern(self.target).filled(model if capture is None else capture)
