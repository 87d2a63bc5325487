"""What a vector costs a worker: CPU of the OpenAI wire, base64 and floats, beside LiteLLM's path.

Calls of 64 texts, one after the other, to the fake provider in a process of its own; everything
from the request's bytes to float32 in hand is counted, the fake's work is not.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import uvloop

from bench.machine import machine_line
from bench.report import table
from bench.stand import DIMS, MODEL, fake_provider
from embedpool_worker.caps import Caps
from embedpool_worker.deployments import Adapter, Deployment
from embedpool_worker.providers.adapters import build
from embedpool_worker.providers.http_options import HttpOptions
from embedpool_worker.providers.openai_answer import NumberFormat
from embedpool_worker.providers.port import Provider, ProviderCall
from support.vectors import vector_of

TEXTS: Final = 64


def _provider(adapter: Adapter, url: str) -> Provider:
    deployment = Deployment(
        id="bench",
        provider="openai",
        upstream_model=MODEL,
        adapter=adapter,
        caps=Caps(max_items=2_048, max_item_tokens=8_191),
        api_base=f"{url}/v1",
    )
    return build(deployment, HttpOptions())


def _wire(url: str) -> Provider:
    return _provider(Adapter.OPENAI_WIRE, url)


def _wire_in_floats(url: str) -> Provider:
    wire: Any = _provider(Adapter.OPENAI_WIRE, url)
    wire._format = NumberFormat.FLOAT  # as after a provider refused base64
    return wire  # type: ignore[no-any-return]


def _litellm(url: str) -> Provider:
    return _provider(Adapter.LITELLM, url)


WAYS: Final[dict[str, Callable[[str], Provider]]] = {
    "OpenAI wire, base64": _wire,
    "OpenAI wire, floats": _wire_in_floats,
    "LiteLLM, floats": _litellm,
}


async def _cpu_us_per_vector(provider: Provider, calls: int) -> float:
    texts = [f"text {number}" for number in range(TEXTS)]
    call = ProviderCall(model=MODEL, inputs=texts, secret="sk-bench")  # noqa: S106
    for _ in range(5):
        answer = await provider.embed(call)
    assert list(answer.vectors) == [vector_of(text, DIMS, MODEL) for text in texts]
    began_s = time.process_time()
    for _ in range(calls):
        await provider.embed(call)
    used_s = time.process_time() - began_s
    await provider.close()
    return used_s / calls / TEXTS * 1e6


async def _measured(url: str, calls: int) -> list[list[str]]:
    rows = []
    for name, make in WAYS.items():
        cost_us = await _cpu_us_per_vector(make(url), calls if "wire" in name else calls // 10)
        rows.append([name, f"{cost_us:.1f}"])
        await asyncio.sleep(0)
    return rows


def main() -> None:
    """Print CPU microseconds per vector of each way."""
    parser = argparse.ArgumentParser(prog="python -m bench.vectors", description=__doc__)
    parser.add_argument("--calls", type=int, default=300)
    options = parser.parse_args()
    print(machine_line())
    with (
        tempfile.TemporaryDirectory(prefix="ep-bench-") as name,
        fake_provider(Path(name)) as (_, url),
    ):
        rows = uvloop.run(_measured(url, options.calls))
    print(table([f"{TEXTS} texts a call, {DIMS:,} dimensions", "CPU µs per vector"], rows))


if __name__ == "__main__":
    main()
