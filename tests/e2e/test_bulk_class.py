"""The bulk class over HTTP: pipelines ingest in it, and nobody who waits stands behind them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from e2e.asking import Caller, all_at_once, asked, callers
from e2e.keys import MASTER, Office, bearer, books_of, guarded
from e2e.limited import exactly
from e2e.load import until
from e2e.models import openai_entry
from e2e.pages import program, ran
from e2e.pools import Pool, serving
from support.fake_provider import FakeProvider
from support.faults import Behaviour
from support.ports import free_port
from support.processes import wait_until
from support.vectors import vector_of

pytestmark = pytest.mark.long

UPSTREAM: Final = "text-embedding-3-small"
LIMITED: Final = "limited"
NARROW: Final = "narrow"
DIMS: Final = 48
CHUNKS: Final = 2_000
RPM: Final = 120
CALL_ITEMS: Final = 8
BULK: Final = {"x-embedpool-class": "bulk"}
DEBUG: Final = {"x-embedpool-debug": "1"}
SINGLES: Final = 8
BULK_CALLS: Final = 80
FOR_ONE_CALL_MS: Final = 60_000 / RPM
PAGE: Final = "ingestion.md"
HEADER_LINE: Final = '    default_headers={"x-embedpool-class": "bulk"},\n'
LANGCHAIN: Final = "langchain_openai"
LLAMA_INDEX: Final = "llama_index"


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeProvider]:
    with FakeProvider.in_thread(dims=DIMS, count_tokens=exactly) as provider:
        yield provider


@pytest.fixture(scope="module")
def pool(fake: FakeProvider) -> Iterator[Pool]:
    about = {"output_dimensions": DIMS, "input_cost_per_token": 2e-8}
    narrow = openai_entry(NARROW, fake, **about, max_items_per_call=CALL_ITEMS)
    limited = openai_entry(LIMITED, fake, **about, max_items_per_call=CALL_ITEMS)
    limited["litellm_params"]["rpm"] = RPM
    config = guarded(fake, openai_entry(UPSTREAM, fake, **about), narrow, limited)
    env = {"EMBEDPOOL_METRICS_API_PORT": str(free_port())}
    with serving(config=config, env=env) as running:
        yield running


@pytest.fixture
def provider(fake: FakeProvider) -> Iterator[FakeProvider]:
    fake.forget()
    yield fake
    fake.behave()


@pytest.fixture
def office(pool: Pool, plain_client: httpx.Client) -> Office:
    return Office(pool.url, plain_client)


class Ingested:
    """What came in by class since it was made, and a key with what it is charged."""

    def __init__(self, pool: Pool, office: Office, **about_key: Any) -> None:
        self._pool = pool
        self._office = office
        self.key = office.key(**about_key)
        self._before = self._inputs()

    def wait_for(self, *, bulk: int = 0, interactive: int = 0) -> None:
        """Return when as many inputs have come in of each class; raises `NotInTime`."""
        wanted = self._before + Counter(bulk=bulk, interactive=interactive)
        wait_until(lambda: self._inputs() == wanted, patience_s=5, what=f"{wanted} by class")

    def check(self, provider: FakeProvider, chunks: Sequence[str]) -> None:
        """All of these chunks went through in bulk, once each, and are on the key's bill."""
        self.wait_for(bulk=len(chunks))
        sent = list(chain.from_iterable(call.items for call in provider.calls))
        assert sorted(map(str, sent)) == sorted(chunks)
        with books_of(self._pool) as books:
            books.wait_until_settled()
        tokens = sum(call.tokens for call in provider.calls)
        assert self._office.of_key(self.key)["spend"] == pytest.approx(2e-8 * tokens)

    def _inputs(self) -> Counter[str]:
        answer = self._office.ask("GET", "/metrics")
        found: Counter[str] = Counter()
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                if sample.name == "embedpool_inputs_total" and sample.value:
                    found[sample.labels["class"]] += int(sample.value)
        return found


def as_bytes(vectors: Sequence[Sequence[float]]) -> list[bytes]:
    return [np.asarray(vector, "<f4").tobytes() for vector in vectors]


def right(chunks: Sequence[str]) -> list[bytes]:
    return [vector_of(chunk, DIMS, UPSTREAM) for chunk in chunks]


@pytest.mark.parametrize("part", [LANGCHAIN, LLAMA_INDEX])
def test_the_pages_pipelines_ingest_in_the_bulk_class(
    pool: Pool, office: Office, provider: FakeProvider, tmp_path: Path, part: str
) -> None:
    ingested = Ingested(pool, office)

    names = ran(program(PAGE, part), tmp_path, url=pool.url, key=ingested.key)

    assert len(names["chunks"]) == CHUNKS
    assert as_bytes(names["vectors"]) == right(names["chunks"])
    ingested.check(provider, names["chunks"])


@pytest.mark.parametrize("part", [LANGCHAIN, LLAMA_INDEX])
def test_a_key_of_the_bulk_class_needs_no_header(
    pool: Pool, office: Office, provider: FakeProvider, tmp_path: Path, part: str
) -> None:
    ingested = Ingested(pool, office, default_class="bulk")
    said, unsaid = program(PAGE, part).split(HEADER_LINE)

    names = ran(said + unsaid, tmp_path, url=pool.url, key=ingested.key)

    assert as_bytes(names["vectors"]) == right(names["chunks"])
    ingested.check(provider, names["chunks"])


def test_a_header_goes_before_what_a_key_says(
    pool: Pool, office: Office, plain_client: httpx.Client
) -> None:
    ingested = Ingested(pool, office, default_class="bulk")
    headers = bearer(ingested.key) | {"x-embedpool-class": "interactive"}

    answer = plain_client.post(
        f"{pool.url}/v1/embeddings", json=asked(UPSTREAM, "now"), headers=headers
    )

    assert answer.status_code == 200
    ingested.wait_for(interactive=1)


async def test_no_single_text_waits_behind_bulk_that_uses_up_a_keys_limit(
    pool: Pool, provider: FakeProvider
) -> None:
    provider.behave(Behaviour(latency_s=0.1))
    waits_ms = []
    async with bulk_of(LIMITED, pool), callers(1, pool.url) as (caller,):
        await until(lambda: provider.totals.calls >= 5, "bulk under way")
        for number in range(SINGLES):
            waits_ms.append(await _waited_ms(caller, LIMITED, f"single {number}"))
            # At another moment of bulk's pace each time.
            await asyncio.sleep(FOR_ONE_CALL_MS / 1_000 * (0.5 + number / SINGLES))

    calls = [str(call.items[0]) for call in provider.calls]
    first = calls.index("single 0")
    bulk_beside = sum(name.startswith("bulk") for name in calls[first:])
    # Behind the next call of bulk they would wait half of its turn on average, behind all minutes.
    assert sorted(waits_ms)[SINGLES // 2] < FOR_ONE_CALL_MS / 10
    assert max(waits_ms) < FOR_ONE_CALL_MS
    assert bulk_beside >= SINGLES // 2


async def test_no_single_text_waits_for_a_slot_that_bulk_has(
    pool: Pool, provider: FakeProvider
) -> None:
    provider.behave(Behaviour(latency_s=0.5))
    async with bulk_of(NARROW, pool), callers(1, pool.url) as (caller,):
        await until(lambda: provider.traffic.in_flight >= 6, "all of bulk's slots taken")
        wait_ms = await _waited_ms(caller, NARROW, "single")
        answered = provider.totals.calls

    assert wait_ms < 250
    assert answered < BULK_CALLS / 2  # most of bulk was still to come


@asynccontextmanager
async def bulk_of(model: str, pool: Pool) -> AsyncIterator[None]:
    """Ask for much more of this model than the context lasts, each request a call's worth."""
    bodies = [
        asked(model, [f"bulk {call} {at}" for at in range(CALL_ITEMS)])
        for call in range(BULK_CALLS)
    ]
    asking = asyncio.create_task(all_at_once(pool.url, bodies, bearer(MASTER) | BULK))
    try:
        yield
        assert not asking.done()
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def _waited_ms(caller: Caller, model: str, text: str) -> float:
    """Ask for one text; return how long it was queued."""
    answer = await caller.ask(asked(model, text), bearer(MASTER) | DEBUG)
    assert answer.vectors == [vector_of(text, DIMS, UPSTREAM)]
    return float(answer.headers["x-embedpool-queue-ms"])
