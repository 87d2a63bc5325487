"""A list may be longer than any call: it is split, and what was refused is remembered."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest

from e2e.asking import UPSTREAM, all_at_once, asked, right, vectors_in
from e2e.keys import MASTER, SHORT_DIMS, bearer, guarded, short_entry
from e2e.models import entry
from e2e.pools import Pool, serving
from e2e.store import store_at
from support.fake_provider import FakeProvider
from support.faults import Behaviour
from support.processes import wait_until

CO_MODEL: Final = "embed-english-v3.0"
NARROW: Final = 10


@pytest.fixture(scope="module")
def narrow() -> Iterator[FakeProvider]:
    """A second place, which takes no more than a few items and is told no more."""
    with FakeProvider.in_thread(dims=SHORT_DIMS) as provider:
        yield provider


@pytest.fixture(scope="module")
def pool(lasting_fake: FakeProvider, narrow: FakeProvider) -> Iterator[Pool]:
    def somebodys(name: str, **info: Any) -> dict[str, Any]:
        model = f"hosted_vllm/{UPSTREAM}"
        return entry(name, model, lasting_fake.api_base, output_dimensions=SHORT_DIMS, **info)

    cohere_base = f"{lasting_fake.url}/v2/embed"
    listed = [
        short_entry("said", lasting_fake, max_items_per_call=7),
        short_entry("tokens", lasting_fake, max_tokens_per_call=100),
        short_entry("bytes", lasting_fake, max_bytes_per_call=500),
        entry("cohere", f"cohere/{CO_MODEL}", cohere_base, "co", output_dimensions=SHORT_DIMS),
        *(somebodys(name) for name in ("learns", "learns-tokens", "too-large")),
        short_entry("two-places", lasting_fake, "sk-first"),
        short_entry("two-places", narrow, "sk-second", max_items_per_call=NARROW),
    ]
    with serving(config=guarded(lasting_fake, *listed)) as running:
        yield running


def ask(pool: Pool, client: httpx.Client, model: str, texts: list[str]) -> list[bytes]:
    """Ask for all of these at once, and read the vectors in their order."""
    url = f"{pool.url}/v1/embeddings"
    answer = client.post(url, json=asked(model, texts), headers=bearer(MASTER))
    assert answer.status_code == 200, answer.text
    return vectors_in(answer.json())


def texts_of(name: str, count: int) -> list[str]:
    return [f"{name} number {number:03d}" for number in range(count)]


def sizes(fake: FakeProvider) -> list[int]:
    return [len(call.items) for call in fake.calls]


def info_of(pool: Pool, client: httpx.Client, model: str) -> dict[str, Any]:
    """What `/model/info` says about a model's limits."""
    answer = client.get(f"{pool.url}/model/info", headers=bearer(MASTER))
    (found,) = [one for one in answer.json()["data"] if one["model_name"] == model]
    return dict(found["model_info"])


def test_a_list_above_the_caps_that_were_configured_is_split_and_joined_again(
    pool: Pool, fake: FakeProvider, plain_client: httpx.Client
) -> None:
    for model in ("said", "tokens", "bytes"):
        texts = texts_of(model, 60)
        assert ask(pool, plain_client, model, texts) == right(texts, dims=SHORT_DIMS)

    assert fake.totals.by_status == {200: len(fake.calls)}
    by_key = {f"sk-{name}": [c for c in fake.calls if c.key == f"sk-{name}"] for name in
              ("said", "tokens", "bytes")}  # fmt: skip
    assert max(len(call.items) for call in by_key["sk-said"]) <= 7
    assert max(call.tokens for call in by_key["sk-tokens"]) <= 100
    assert max(sum(map(len, map(str, call.items))) for call in by_key["sk-bytes"]) <= 500
    assert info_of(pool, plain_client, "said")["max_items_per_call"] == 7


def test_a_list_above_a_published_cap_is_split_and_joined_again(
    pool: Pool, fake: FakeProvider, plain_client: httpx.Client
) -> None:
    texts = texts_of("cohere", 250)

    vectors = ask(pool, plain_client, "cohere", texts)

    assert vectors == right(texts, dims=SHORT_DIMS, upstream=CO_MODEL)
    assert max(sizes(fake)) <= 96
    assert info_of(pool, plain_client, "cohere")["max_items_per_call"] == 96


async def test_a_cap_the_provider_names_is_respected_from_the_next_call_on_by_every_worker(
    pool: Pool, fake: FakeProvider, plain_client: httpx.Client
) -> None:
    fake.behave(Behaviour(max_items=10))
    first, later, last = (texts_of(word, 25) for word in ("first", "later", "last"))

    assert ask(pool, plain_client, "learns", first) == right(first, dims=SHORT_DIMS)
    refused = fake.totals.by_status[400]
    assert ask(pool, plain_client, "learns", later) == right(later, dims=SHORT_DIMS)
    crowd = await all_at_once(
        pool.url, [asked("learns", text) for text in texts_of("crowd", 64)], bearer(MASTER)
    )

    assert {answer.status for answer in crowd} == {200}
    assert refused == fake.totals.by_status[400] == 1
    wait_until(
        lambda: info_of(pool, plain_client, "learns")["learned_caps"] == {"max_items_per_call": 10},
        patience_s=5,
        what="the cap in /model/info",
    )
    assert info_of(pool, plain_client, "learns")["max_items_per_call"] == 10
    replace_worker(pool)
    fake.forget()
    assert ask(pool, plain_client, "learns", last) == right(last, dims=SHORT_DIMS)
    assert max(sizes(fake)) <= 10, "the new worker knew before its first call"


def replace_worker(pool: Pool) -> None:
    """Kill the pool's worker, and wait for the next one."""
    (old,) = pool.workers()
    with store_at(pool.store_url) as store:
        known = set(store.alive().split())
        os.kill(old.pid, signal.SIGKILL)
        wait_until(
            lambda: bool(set(store.alive().split()) - known), patience_s=15, what="another worker"
        )


def test_a_refusal_without_a_number_halves_the_call_and_is_remembered(
    pool: Pool, fake: FakeProvider, plain_client: httpx.Client
) -> None:
    texts, later = texts_of("too large", 64), texts_of("later", 64)
    entity_too_large = "Request entity too large"
    fake.behave(Behaviour(more_items_than=20, status=413, message=entity_too_large))

    assert ask(pool, plain_client, "too-large", texts) == right(texts, dims=SHORT_DIMS)
    refused = fake.totals.by_status[413]
    assert ask(pool, plain_client, "too-large", later) == right(later, dims=SHORT_DIMS)

    assert 1 <= refused <= 3
    assert fake.totals.by_status[413] == refused
    assert max(sizes(fake)[-4:]) <= 20


def test_a_sum_of_tokens_the_provider_names_is_respected(
    pool: Pool, fake: FakeProvider, plain_client: httpx.Client
) -> None:
    fake.behave(Behaviour(max_tokens=120))
    texts, later = texts_of("tokens", 64), texts_of("tokens later", 64)

    assert ask(pool, plain_client, "learns-tokens", texts) == right(texts, dims=SHORT_DIMS)
    refused = fake.totals.by_status[400]
    assert ask(pool, plain_client, "learns-tokens", later) == right(later, dims=SHORT_DIMS)

    assert fake.totals.by_status[400] == refused
    wait_until(
        lambda: (
            info_of(pool, plain_client, "learns-tokens")["learned_caps"]
            == {"max_tokens_per_call": 120}
        ),
        patience_s=5,
        what="the cap in /model/info",
    )


def test_a_call_that_goes_on_at_a_smaller_place_is_cut_for_it(
    pool: Pool, fake: FakeProvider, narrow: FakeProvider, plain_client: httpx.Client
) -> None:
    fake.behave(Behaviour(status=429, headers={"retry-after": "30"}))
    narrow.behave(Behaviour(max_items=NARROW))
    texts = texts_of("two places", 60)

    assert ask(pool, plain_client, "two-places", texts) == right(texts, dims=SHORT_DIMS)

    assert narrow.totals.by_status == {200: len(narrow.calls)}
    assert max(sizes(narrow)) <= NARROW
