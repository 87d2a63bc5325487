from __future__ import annotations

import pytest

from embedpool_worker.caps import Caps
from embedpool_worker.deployments import Adapter, Deployment
from embedpool_worker.providers.adapters import build
from embedpool_worker.providers.http_options import HttpOptions
from embedpool_worker.providers.litellm_sdk import LiteLLMProvider
from embedpool_worker.providers.local import LocalModel
from embedpool_worker.providers.openai_wire import OpenAIWire


@pytest.mark.parametrize(
    ("adapter", "kind"),
    [
        (Adapter.LOCAL, LocalModel),
        (Adapter.OPENAI_WIRE, OpenAIWire),
        (Adapter.LITELLM, LiteLLMProvider),
    ],
)
def test_a_deployment_gets_the_adapter_it_names(adapter: Adapter, kind: type) -> None:
    deployment = Deployment(
        id="d",
        provider="p",
        upstream_model="m",
        adapter=adapter,
        caps=Caps(max_items=1, max_item_tokens=1),
    )

    assert type(build(deployment, HttpOptions())) is kind
