"""The models of the tests' pool: each about one thing, with credentials of its own."""

from __future__ import annotations

from typing import Any, Final

from support.fake_provider import FakeProvider
from support.ports import free_port

CANARY: Final = "sk-canary-5f0c2a9e7b"
"""A provider's key that must be found nowhere."""
REPEATING_STATUSES: Final = (400, 401, 403, 404, 422, 429, 500)
"""With each of these a provider may repeat the key it was sent; a model for each."""


def entry(name: str, model: str, api_base: str, *keys: str, **info: Any) -> dict[str, Any]:
    """Write one entry of `model_list`."""
    params: dict[str, Any] = {"model": model, "api_base": api_base}
    if keys:
        params["api_keys"] = list(keys)
    return {"model_name": name, "litellm_params": params, "model_info": info}


def openai_entry(name: str, fake: FakeProvider, *keys: str, **info: Any) -> dict[str, Any]:
    """Write an entry for OpenAI's small model at `fake`; without keys it has one of its own."""
    own = keys or (f"sk-{name}",)
    return entry(name, "openai/text-embedding-3-small", fake.api_base, *own, **info)


def config_of(fake: FakeProvider) -> dict[str, Any]:
    """Write the configuration of the tests' pool in front of `fake`."""
    nobody = f"http://127.0.0.1:{free_port()}/v1"
    return {
        "model_list": [
            {"model_name": "wordllama", "litellm_params": {"model": "wordllama/wordllama"}},
            # A server of one's own is not taken to read OpenAI's token ids unless it is said.
            openai_entry("small", fake, native_token_ids=True),
            entry("ada", "openai/text-embedding-ada-002", fake.api_base, "sk-ada"),
            entry("vllm", "hosted_vllm/text-embedding-3-small", fake.api_base),
            entry("gone", "openai/text-embedding-3-small", nobody, "sk-gone"),
            entry(
                "cohere",
                "cohere/embed-english-v3.0",
                f"{fake.url}/v2/embed",
                "co-key",
                output_dimensions=1_536,
            ),
            entry("wild/*", "openai/*", fake.api_base, "sk-wild"),
            openai_entry("canary", fake, CANARY),
            openai_entry("rejected", fake),
            openai_entry("throttled", fake, "sk-throttled-a", "sk-throttled-b"),
            openai_entry("left", fake),
            *(openai_entry(f"repeats-{status}", fake, CANARY) for status in REPEATING_STATUSES),
            # Where a test counts slots, no other may have cost the key some of them.
            openai_entry("occupied", fake),
        ],
        "router_settings": {
            "model_group_alias": {"embeddings-please": "small"},
            # A key that one test made fail is wanted by the next one.
            "allowed_fails": 1_000,
        },
    }
