from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx
import pytest

from embedpool_worker.providers.http_options import HttpOptions
from embedpool_worker.providers.litellm_http import Border, watched
from support.fake_provider import FakeProvider
from support.faults import Behaviour, Ending

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

ASK = {"model": "m", "input": ["x"]}


@pytest.fixture
def fake() -> Iterator[FakeProvider]:
    with FakeProvider.in_thread(dims=12) as provider:
        yield provider


def across(visit: Callable[[httpx.AsyncClient], Awaitable[None]], **options: int) -> None:
    async def run() -> None:
        async with Border(HttpOptions(**options)).client(5.0) as client:  # type: ignore[arg-type]
            await visit(client)

    asyncio.run(run())


def test_a_second_request_to_the_same_address_in_a_call_never_leaves(fake: FakeProvider) -> None:
    async def visit(client: httpx.AsyncClient) -> None:
        with watched():
            await client.post(f"{fake.api_base}/embeddings", json=ASK)
            with pytest.raises(httpx.ReadError):
                await client.post(f"{fake.api_base}/embeddings", json=ASK)

    across(visit)

    assert fake.totals.calls == 1


def test_another_call_may_ask_again(fake: FakeProvider) -> None:
    async def visit(client: httpx.AsyncClient) -> None:
        for _ in range(2):
            with watched():
                await client.post(f"{fake.api_base}/embeddings", json=ASK)

    across(visit)

    assert fake.totals.calls == 2


def test_what_the_provider_answered_is_remembered(fake: FakeProvider) -> None:
    fake.behave(Behaviour(status=429, headers={"Retry-After": "3"}, message="slow down"))

    async def visit(client: httpx.AsyncClient) -> None:
        with watched() as sighting:
            await client.post(f"{fake.api_base}/embeddings", json=ASK)
        assert (sighting.status, sighting.headers["retry-after"]) == (429, "3")
        assert b"slow down" in sighting.body

    across(visit)


def test_a_broken_connection_never_looks_like_one_worth_repeating(fake: FakeProvider) -> None:
    fake.behave(Behaviour(ending=Ending.RESET))

    async def visit(client: httpx.AsyncClient) -> None:
        with watched() as sighting, pytest.raises(httpx.ReadError):
            await client.post(f"{fake.api_base}/embeddings", json=ASK)
        with pytest.raises(httpx.ReadError):
            await client.post("http://127.0.0.1:1/embeddings", json=ASK)
        assert sighting.broken is not None

    across(visit)


def test_a_redirect_is_not_followed(fake: FakeProvider) -> None:
    fake.behave(Behaviour(status=307, headers={"location": "/elsewhere"}))

    async def visit(client: httpx.AsyncClient) -> None:
        response = await client.post(f"{fake.api_base}/embeddings", json=ASK)
        assert response.status_code == 307

    across(visit)

    assert fake.totals.calls == 1


def test_an_answer_is_not_read_past_its_cap(fake: FakeProvider) -> None:
    fake.behave(Behaviour(padding_bytes=100_000))

    async def visit(client: httpx.AsyncClient) -> None:
        with pytest.raises(httpx.ReadError):
            await client.post(f"{fake.api_base}/embeddings", json=ASK)

    across(visit, max_answer_bytes=50_000)
