"""Every path answers as promised, and always in JSON."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from embedpool_api.app import create_app
from embedpool_api.callers import Caller, Gate
from embedpool_api.middleware import HEADERS, REQUEST_ID, read_body
from embedpool_api.parts import ApiParts
from embedpool_api.paths import MODEL
from embedpool_shared.catalog import Catalog
from embedpool_shared.errors import Overloaded, QueueUnavailable
from support.cards import CATALOG

KEY = "sk-a-long-and-random-master-key"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Stand in for the hot endpoint: say what it was given."""
    body = await read_body(receive, scope[HEADERS], max_bytes=100)
    if body == b"full":
        raise Overloaded("full", retry_after_s=2)
    if body == b"bug":
        raise RuntimeError("boom")
    text = f"{scope[MODEL]} {scope[REQUEST_ID]} {body.decode()}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text})


async def healthy() -> Mapping[str, Any]:
    return {"ok": True, "redis": "reachable", "workers": 2}


def app(**changes: Any) -> ASGIApp:
    parts: dict[str, Any] = {
        "embeddings": echo,
        "catalog": lambda: CATALOG,
        "health": healthy,
        "identify": Gate(None).identify,
    }
    return create_app(ApiParts(**(parts | changes)))


def ask(
    method: str,
    path: str,
    *,
    of: ASGIApp | None = None,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    async def main() -> httpx.Response:
        transport = httpx.ASGITransport(app=of or app(), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, content=body, headers=headers)

    return asyncio.run(main())


def error_of(response: httpx.Response) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    content: dict[str, Any] = response.json()
    error: dict[str, Any] = content["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/embeddings", None),
        ("/embeddings?api-version=2024-10-21", None),
        ("/openai/v1/embeddings", None),
        ("/engines/m/embeddings", "m"),
        ("/engines/openai%2Fm/embeddings", "openai/m"),
        ("/openai/deployments/a/b/embeddings?api-version=1", "a/b"),
    ],
)
def test_embeddings_go_straight_to_the_endpoint_with_the_paths_model(
    path: str, model: str | None
) -> None:
    response = ask("POST", path, body=b"x", headers={"x-request-id": "r1"})

    assert response.text == f"{model} r1 x"
    assert response.headers["x-request-id"] == "r1"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_the_endpoint_answers_no_other_method(method: str) -> None:
    response = ask(method, "/v1/embeddings")

    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert error_of(response)["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"full", 503), (b"bug", 500), (b"x" * 101, 413)],
    ids=["503", "500", "413"],
)
def test_what_the_endpoint_raises_is_answered_in_the_envelope(body: bytes, status: int) -> None:
    response = ask("POST", "/v1/embeddings", body=body)

    assert response.status_code == status
    assert "boom" not in error_of(response)["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("POST", "/v1/embeddings/", 404),
        ("GET", "/v1/models/", 404),
        ("GET", "/docs", 404),
        ("GET", "/redoc", 404),
        ("POST", "/v1/models", 405),
        ("DELETE", "/healthz", 405),
        ("GET", "/readyz?deep=perhaps", 400),
    ],
)
def test_every_other_mistake_is_json_too(method: str, path: str, status: int) -> None:
    response = ask(method, path)

    assert response.status_code == status
    assert error_of(response)["type"] == "invalid_request_error"
    assert ("allow" in response.headers) == (status == 405)


def test_a_bug_in_a_route_is_answered_with_its_id() -> None:
    def broken() -> Catalog:
        raise RuntimeError("boom")

    response = ask("GET", "/v1/models", of=app(catalog=broken), headers={"x-request-id": "r9"})

    assert response.status_code == 500
    assert "r9" in error_of(response)["message"]
    assert "boom" not in response.text


def test_an_error_of_the_framework_is_translated() -> None:
    def odd() -> Catalog:
        raise HTTPException(400, "There was an error parsing the body")

    response = ask("GET", "/v1/models", of=app(catalog=odd))

    assert response.status_code == 400
    assert error_of(response)["message"] == "There was an error parsing the body"


@pytest.mark.parametrize("path", ["/v1/models", "/models"])
def test_the_models_are_listed_as_openai_does(path: str) -> None:
    content = ask("GET", path).json()

    assert content["object"] == "list"
    assert [model["id"] for model in content["data"]] == sorted(CATALOG.models)
    assert content["data"][-1]["owned_by"] == "local"
    assert content["data"][-1]["object"] == "model"
    assert isinstance(content["data"][-1]["created"], int)
    assert content["wildcards"] == ["mistral/*"]


@pytest.mark.parametrize(
    ("asked", "id_"),
    [
        ("wordllama", "wordllama"),
        ("default", "wordllama"),
        ("cohere/embed-english-v3.0", "cohere/embed-english-v3.0"),
        ("mistral/embed", "mistral/embed"),
    ],
)
def test_one_model_is_shown_by_any_of_its_names(asked: str, id_: str) -> None:
    assert ask("GET", f"/v1/models/{asked}").json()["id"] == id_


def test_an_unknown_model_is_not_found() -> None:
    response = ask("GET", "/v1/models/gpt-4o")

    assert response.status_code == 404
    assert error_of(response)["code"] == "model_not_found"


def test_a_caller_sees_only_the_models_it_may_use() -> None:
    async def narrow(headers: Mapping[bytes, bytes]) -> Caller:
        return Caller(account="k", models=(frozenset({"wordllama"}),))

    content = ask("GET", "/v1/models", of=app(identify=narrow)).json()
    hidden = ask("GET", "/v1/models/text-embedding-3-small", of=app(identify=narrow))

    assert [model["id"] for model in content["data"]] == ["wordllama"]
    assert content["wildcards"] == []
    assert error_of(hidden)["code"] == "model_not_found"


def test_models_without_a_catalogue_are_a_503() -> None:
    response = ask("GET", "/v1/models", of=app(catalog=lambda: None))

    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert error_of(response)["code"] == "queue_unavailable"


@pytest.mark.parametrize("path", ["/v1/models", "/models", "/v1/models/wordllama"])
def test_models_want_the_key(path: str) -> None:
    locked = app(identify=Gate(KEY).identify)

    assert ask("GET", path, of=locked).status_code == 401
    assert ask("GET", path, of=locked, headers={"api-key": KEY}).status_code == 200


@pytest.mark.parametrize(
    "path", ["/healthz", "/health/liveliness", "/health/liveness", "/readyz", "/health/readiness"]
)
def test_health_is_told_to_anybody_and_asks_nobody(path: str) -> None:
    async def never() -> Mapping[str, Any]:
        raise AssertionError

    response = ask("GET", path, of=app(identify=Gate(KEY).identify, health=never))

    assert response.status_code == 200
    assert response.json()["status"] in {"alive", "ready"}


def test_a_deep_look_tells_the_details() -> None:
    response = ask("GET", "/readyz?deep=1")

    assert response.status_code == 200
    assert response.json() == {"status": "ready", "redis": "reachable", "workers": 2}


def test_a_deep_look_at_a_pool_without_workers_is_a_503_with_the_details() -> None:
    async def lonely() -> Mapping[str, Any]:
        return {"ok": False, "redis": "reachable", "workers": 0}

    response = ask("GET", "/health/readiness?deep=1", of=app(health=lonely))

    assert response.status_code == 503
    assert response.json()["workers"] == 0
    assert error_of(response)["code"] == "queue_unavailable"


def test_a_deep_look_that_fails_is_a_503() -> None:
    async def away() -> Mapping[str, Any]:
        raise QueueUnavailable("Redis is away")

    response = ask("GET", "/readyz?deep=true", of=app(health=away))

    assert response.status_code == 503
    assert error_of(response)["message"] == "Redis is away"


def test_the_lifespan_surrounds_the_serving() -> None:
    steps: list[str] = []

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        steps.append("up")
        yield
        steps.append("down")

    async def main() -> None:
        coming: list[Message] = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

        async def receive() -> Message:
            return coming.pop(0)

        async def send(message: Message) -> None:
            steps.append(message["type"])

        scope: Scope = {"type": "lifespan", "asgi": {"version": "3.0"}}
        await app(lifespan=lifespan)(scope, receive, send)

    asyncio.run(main())

    assert steps == ["up", "lifespan.startup.complete", "down", "lifespan.shutdown.complete"]
