"""Which adapter serves a deployment; the one place where adapters are built."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from embedpool_worker.deployments import Adapter, Deployment
from embedpool_worker.providers.litellm_sdk import LiteLLMProvider
from embedpool_worker.providers.local import LocalModel
from embedpool_worker.providers.openai_wire import OpenAIWire

if TYPE_CHECKING:
    from embedpool_worker.providers.http_options import HttpOptions
    from embedpool_worker.providers.port import Provider


def build(deployment: Deployment, options: HttpOptions) -> Provider:
    """Build the adapter that speaks with `deployment`; nothing is connected or loaded yet."""
    match deployment.adapter:
        case Adapter.LOCAL:
            return LocalModel()
        case Adapter.OPENAI_WIRE:
            return OpenAIWire(deployment, options)
        case Adapter.LITELLM:
            return LiteLLMProvider(deployment, options)
        case _:
            assert_never(deployment.adapter)
