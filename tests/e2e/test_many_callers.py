"""Many callers' texts, few provider calls, every caller's own vectors."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from e2e.asking import DIMS, Answer, all_at_once, asked, right
from e2e.pools import Pool
from e2e.store import Store
from support.calls import Call
from support.fake_provider import FakeProvider
from support.faults import Behaviour

SLOW = Behaviour(latency_s=0.05)


def check(answers: Sequence[Answer], texts: Sequence[Sequence[str]]) -> None:
    """Every caller has its own vectors in its own order."""
    assert [answer.status for answer in answers] == [200] * len(texts)
    for answer, own in zip(answers, texts, strict=True):
        assert answer.vectors == right(own)


async def test_two_hundred_callers_make_at_most_twenty_calls(
    pool: Pool, provider: FakeProvider
) -> None:
    texts = [[f"the text of caller {n}"] for n in range(200)]
    provider.behave(SLOW)

    answers = await all_at_once(pool.url, [asked("small", own) for own in texts])

    check(answers, texts)
    assert provider.totals.items == 200
    assert provider.totals.calls <= 20


async def test_large_and_small_requests_side_by_side_keep_every_order(
    pool: Pool, provider: FakeProvider, store: Store
) -> None:
    sizes = [1, 64, 65, 3, 2_048, 1, 130, 64, 2_048, 2, *[1] * 40]
    random.Random(7).shuffle(sizes)
    texts = [[f"{n}/{i}" for i in range(size)] for n, size in enumerate(sizes)]

    answers = await all_at_once(pool.url, [asked("small", own) for own in texts])

    check(answers, texts)
    assert provider.totals.items == sum(sizes)
    assert provider.totals.largest_call_items <= 2_048
    store.wait_until_quiet()


async def test_the_same_text_of_many_callers_is_sent_once_a_call(
    pool: Pool, provider: FakeProvider
) -> None:
    provider.behave(SLOW)

    answers = await all_at_once(pool.url, [asked("small", "the same")] * 60)

    check(answers, [["the same"]] * 60)
    for call in provider.calls:
        assert call.items == ["the same"]
    assert provider.totals.calls <= 20


async def test_no_call_mixes_what_must_not_mix(pool: Pool, provider: FakeProvider) -> None:
    provider.behave(SLOW)
    kinds: list[dict[str, Any]] = [
        {},
        {"dimensions": 256},
        {"dimensions": 512},
        {"dimensions": DIMS},
        {"extra_body": {"priority": "low"}},
        {"extra_body": {"priority": "high"}},
        {"priority": "low"},
    ]
    asks = [(f"{n}: {kind}", kind) for n in range(12) for kind in kinds]

    answers = await all_at_once(pool.url, [asked("small", text, **kind) for text, kind in asks])

    for (text, kind), answer in zip(asks, answers, strict=True):
        assert answer.vectors == right([text], dims=kind.get("dimensions", DIMS))
    wanted = dict(asks)
    kinds_of_calls = [{kind_of(wanted[text]) for text in texts_of(call)} for call in provider.calls]
    assert {len(kinds) for kinds in kinds_of_calls} == {1}
    # The model's own size is no other size, and a field means the same in both places.
    assert len(set().union(*kinds_of_calls)) == 5


def kind_of(fields: dict[str, Any]) -> tuple[object, object]:
    """What of a request its call must have, too."""
    dims = fields.get("dimensions")
    extra = fields.get("extra_body", fields)
    return (None if dims == DIMS else dims, extra.get("priority"))


def texts_of(call: Call) -> list[str]:
    return [item for item in call.items if isinstance(item, str)]


async def test_each_call_carries_the_fields_of_its_callers(
    pool: Pool, provider: FakeProvider
) -> None:
    by_text: dict[str, dict[str, Any]] = {
        "own size": {"dimensions": DIMS},
        "shorter": {"dimensions": 256},
        "merged": {"extra_body": {"priority": "low"}},
        "on top": {"priority": "high"},
        "with a user": {"user": "ann", "metadata": {"team": "search"}, "tags": ["a"]},
    }

    await all_at_once(pool.url, [asked("small", text, **kind) for text, kind in by_text.items()])

    sent: dict[str, dict[str, Any]] = defaultdict(dict)
    for call in provider.calls:
        for text in texts_of(call):
            sent[text] = call.fields
    common = {"model": "text-embedding-3-small", "encoding_format": "base64"}
    assert dict(sent) == {
        "own size": common,
        "shorter": common | {"dimensions": 256},
        "merged": common | {"priority": "low"},
        "on top": common | {"priority": "high"},
        "with a user": common,
    }


def test_token_arrays_go_to_openai_as_they_are(
    client: httpx.Client, provider: FakeProvider
) -> None:
    ids = [[9906, 11, 1917], [1], [15339, 1917]]

    answer = client.post("/v1/embeddings", json=asked("small", ids))

    assert Answer(200, {}, answer.json(), 0).vectors == right(ids)
    assert provider.calls[0].items == ids
    assert answer.json()["usage"]["total_tokens"] == 6


def test_one_array_of_ids_is_one_input(client: httpx.Client, provider: FakeProvider) -> None:
    answer = client.post("/v1/embeddings", json=asked("small", [9906, 11, 1917]))

    assert len(answer.json()["data"]) == 1
    assert provider.calls[0].items == [[9906, 11, 1917]]


def test_token_arrays_go_to_everybody_else_as_text(
    client: httpx.Client, provider: FakeProvider
) -> None:
    answer = client.post("/v1/embeddings", json=asked("vllm", [[9906, 11, 1917], [15339]]))

    assert provider.calls[0].items == ["Hello, world", "hello"]
    assert Answer(200, {}, answer.json(), 0).vectors == right(["Hello, world", "hello"])
    assert answer.json()["usage"]["total_tokens"] == 4


@pytest.mark.usefixtures("provider")
def test_texts_and_ids_never_share_a_vector(client: httpx.Client) -> None:
    as_ids = client.post("/v1/embeddings", json=asked("small", [15339])).json()
    as_text = client.post("/v1/embeddings", json=asked("small", "hello")).json()

    assert as_ids["data"] != as_text["data"]


@pytest.mark.parametrize(
    "model", ["small", "embeddings-please", "Embeddings_Please", "small@openai"]
)
def test_a_model_is_found_by_every_name_it_has(
    client: httpx.Client, provider: FakeProvider, model: str
) -> None:
    answer = client.post("/v1/embeddings", json=asked(model, "by name"))

    assert Answer(200, {}, answer.json(), 0).vectors == right(["by name"])
    assert provider.totals.calls == 1


@pytest.mark.usefixtures("provider")
@pytest.mark.parametrize(
    "path",
    [
        "/v1/embeddings",
        "/embeddings",
        "/openai/v1/embeddings",
        "/engines/small/embeddings",
        "/openai/deployments/small/embeddings?api-version=2024-10-21",
    ],
)
def test_the_endpoint_answers_at_all_its_paths(client: httpx.Client, path: str) -> None:
    named = {"model": "ada"} if "small" in path else {"model": "small"}

    answer = client.post(path, json={"input": "by path", "encoding_format": "base64", **named})

    assert Answer(200, {}, answer.json(), 0).vectors == right(["by path"])


@pytest.mark.usefixtures("provider")
def test_debug_headers_tell_what_became_of_a_request(client: httpx.Client) -> None:
    answer = client.post(
        "/v1/embeddings", json=asked("small", "why?"), headers={"x-embedpool-debug": "1"}
    )

    told = {
        name.removeprefix("x-embedpool-"): value
        for name, value in answer.headers.items()
        if name.startswith("x-embedpool-")
    }
    assert told["provider"] == "openai"
    assert told["batch-items"] == told["batch-requests"] == told["tries"] == "1"
    assert float(told["queue-ms"]) >= 0
    assert float(told["provider-ms"]) >= 0


async def test_both_encodings_share_a_call(pool: Pool, provider: FakeProvider) -> None:
    provider.behave(SLOW)
    bodies = [
        asked("small", f"{n}") | {"encoding_format": ("base64", "float", None)[n % 3]}
        for n in range(60)
    ]

    answers = await all_at_once(pool.url, bodies)

    check(answers, [[f"{n}"] for n in range(60)])
    assert {call.fields["encoding_format"] for call in provider.calls} == {"base64"}


async def test_bulk_and_interactive_requests_are_both_answered(
    pool: Pool, provider: FakeProvider
) -> None:
    provider.behave(SLOW)
    texts = [[f"bulk {n}"] for n in range(40)], [[f"interactive {n}"] for n in range(40)]

    bulk, interactive = await asyncio.gather(
        all_at_once(pool.url, [asked("small", t) for t in texts[0]], {"x-embedpool-class": "bulk"}),
        all_at_once(pool.url, [asked("small", t) for t in texts[1]]),
    )

    check(bulk, texts[0])
    check(interactive, texts[1])
