"""Other ways to embed many texts: Baseten's client, and OpenAI's through LiteLLM's proxy.

Neither is a dependency of embedpool. For the first, `pip install --target DIR
baseten-performance-client` and `--baseten DIR`; the second wants an environment of its own:
`python -m venv DIR`, `DIR/bin/pip install 'litellm[proxy]'` and `--litellm DIR`.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import httpx
import openai

from support.ports import free_port
from support.processes import Program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB: Final = 1024 * 1024
STARTS_WITHIN_S: Final = 180.0
LITELLM_KEY: Final = f"sk-{secrets.token_hex(32)}"
"""Its proxy starts with none that is short."""
Embed = Callable[[Sequence[str]], None]
"""Embeds all of these texts, and ends the run with a reason where any is missing."""


def baseten(folder: Path | None, url: str, model: str, *, batch: int, concurrency: int) -> Embed:
    """Make Baseten's client, from `folder` if it is not installed; raises ModuleNotFoundError."""
    if folder is not None:
        sys.path.append(str(folder))
    from baseten_performance_client import (  # noqa: PLC0415
        PerformanceClient,
        RequestProcessingPreference,
    )

    client = PerformanceClient(base_url=url, api_key="sk-bench")
    how = RequestProcessingPreference(
        batch_size=batch, max_concurrent_requests=concurrency, max_chars_per_request=MIB
    )

    def embed(texts: Sequence[str]) -> None:
        # Base64 is what it does fastest; it leaves the decoding to its caller.
        answer = client.embed(
            input=list(texts), model=model, encoding_format="base64", preference=how
        )
        _check("baseten-performance-client", len(answer.data), len(texts))

    return embed


def openai_async(url: str, key: str, model: str, *, batch: int, concurrency: int) -> Embed:
    """Make OpenAI's async client with so many requests of so many texts in flight."""

    async def all_of(texts: Sequence[str]) -> int:
        requests = iter([texts[at : at + batch] for at in range(0, len(texts), batch)])
        vectors = 0

        async def keep_asking(client: openai.AsyncOpenAI) -> None:
            nonlocal vectors
            for request in requests:
                answer = await client.embeddings.create(model=model, input=list(request))
                vectors += len(answer.data)

        http = httpx.AsyncClient(trust_env=False, timeout=600)
        async with (
            openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, http_client=http) as client,
            asyncio.TaskGroup() as tasks,
        ):
            for _ in range(concurrency):
                tasks.create_task(keep_asking(client))
        return vectors

    def embed(texts: Sequence[str]) -> None:
        _check("the openai package", asyncio.run(all_of(texts)), len(texts))

    return embed


@contextmanager
def litellm_proxy(environment: Path, fake_url: str, model: str, folder: Path) -> Iterator[str]:
    """Run LiteLLM's proxy from an environment in front of the fake provider; yield its URL."""
    config = folder / "litellm.yaml"
    params = {"model": f"openai/{model}", "api_base": f"{fake_url}/v1", "api_key": "sk-bench"}
    listed = [{"model_name": model, "litellm_params": params}]
    config.write_text(json.dumps({"model_list": listed}))
    port = str(free_port())
    command = [
        str(environment / "bin" / "litellm"),
        *("--config", str(config), "--host", "127.0.0.1", "--port", port, "--telemetry", "False"),
    ]
    env = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MASTER_KEY": LITELLM_KEY,
        "PYTHONPATH": "",
    }
    with Program(command, log=folder / "litellm.log", env=env) as proxy:
        url = f"http://127.0.0.1:{port}"
        proxy.wait_for_ok(f"{url}/health/liveliness", patience_s=STARTS_WITHIN_S)
        yield url


def _check(client: str, vectors: int, texts: int) -> None:
    if vectors != texts:
        sys.exit(f"{client} answered {vectors} vectors for {texts} texts")
