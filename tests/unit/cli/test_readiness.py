from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from embedpool_cli.readiness import Front
from support.http_server import Head, HttpServer, Response

READY = {"status": "ready", "redis": "ok", "workers": 1}
MODELS = {"data": [{"id": "a"}, {"id": "b"}], "wildcards": ["openai/*"]}


class Api:
    """An api that comes up after some refusals."""

    def __init__(self, *, refusals: int = 0, key: str | None = None) -> None:
        self.refusals = refusals
        self.key = key
        self.heads: list[Head] = []

    def answer(self, head: Head, _: bytes) -> Response:
        self.heads.append(head)
        if self.refusals:
            self.refusals -= 1
            return Response(_json({"error": {"message": "no worker lives"}}), status=503)
        if head.path == "/readyz":
            return Response(_json(READY))
        if self.key and head.key != self.key:
            return Response(_json({"error": {"message": "Invalid API key"}}), status=401)
        return Response(_json(MODELS))


def _json(content: object) -> bytes:
    return json.dumps(content).encode()


@asynccontextmanager
async def front_of(api: Api, key: str | None = None) -> AsyncIterator[Front]:
    server = HttpServer(api.answer)
    await server.start()
    try:
        yield Front(f"http://127.0.0.1:{server.port}", key)
    finally:
        await server.stop()


async def test_the_models_are_named_once_everything_is_up() -> None:
    api = Api(refusals=2)

    async with front_of(api) as front:
        assert await front.until_ready(say=print) == ["a", "b", "openai/*"]

    assert [head.path for head in api.heads] == ["/readyz", "/readyz", "/readyz", "/v1/models"]
    assert api.heads[0].query == "deep=1"


async def test_it_comes_as_a_caller_on_this_machine() -> None:
    api = Api()

    async with front_of(api) as front:
        await front.until_ready(say=print)
        assert api.heads[0].headers["host"] == front.url.removeprefix("http://")

    assert all(head.key is None for head in api.heads)


async def test_with_a_master_key_it_shows_it() -> None:
    on_the_wire = "schlüssel".encode().decode("latin-1")

    async with front_of(Api(key=on_the_wire), "schlüssel") as front:
        assert await front.until_ready(say=print) == ["a", "b", "openai/*"]


async def test_what_is_missing_is_said_after_a_while() -> None:
    said: list[str] = []

    async with front_of(Api(refusals=2)) as front:
        hasty = replace(front, say_so_after_s=(0.0,))
        await hasty.until_ready(say=said.append)

    assert len(said) == 1
    assert "no worker lives" in said[0]


async def test_an_api_that_is_not_there_is_no_answer() -> None:
    async with front_of(Api()) as front:
        gone = front

    assert await gone.get("/readyz") == (0, {})


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff"])
async def test_an_answer_that_is_not_our_apis_is_none(body: bytes) -> None:
    server = HttpServer(lambda _head, _body: Response(body))
    await server.start()

    answer = await Front(f"http://127.0.0.1:{server.port}").get("/readyz")

    assert answer == (0, {})
    await server.stop()
