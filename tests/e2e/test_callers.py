"""Who is let in: this machine without a key, everybody with the master key, nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e.asking import asked, error_of, right, seen, vectors_in
from e2e.models import CANARY
from e2e.pools import Fleet, Pool, short_directory
from support.fake_provider import FakeProvider
from support.faults import Behaviour
from support.processes import Program

MASTER = "mk-canary-0b7e61d2c4f9"
INVALID = (401, "invalid_request_error", None, "invalid_api_key")


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"host": "evil.example"}, id="a foreign host"),
        pytest.param({"host": "127.0.0.1.evil.example:4000"}, id="a host that begins like ours"),
        pytest.param({"x-forwarded-for": "203.0.113.7"}, id="through a proxy"),
        pytest.param({"x-forwarded-host": "localhost"}, id="through a proxy for us"),
        pytest.param({"forwarded": "for=203.0.113.7"}, id="through a modern proxy"),
        pytest.param({"origin": "https://evil.example"}, id="from another site's page"),
        pytest.param({"origin": "null"}, id="from a page without a site"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/models"])
def test_without_a_master_key_strangers_are_refused(
    client: httpx.Client, provider: FakeProvider, headers: dict[str, str], path: str
) -> None:
    body = asked("small", "let me in") if path == "/v1/embeddings" else None

    answer = client.request("POST" if body else "GET", path, json=body, headers=headers)

    assert seen(answer) == INVALID
    assert "EMBEDPOOL_MASTER_KEY" in error_of(answer)["message"]
    assert provider.totals.calls == 0


@pytest.mark.usefixtures("provider")
@pytest.mark.parametrize(
    "headers",
    [
        {"host": "localhost:4000"},
        {"host": "[::1]:4000"},
        {"authorization": "Bearer whatever"},
        {"api-key": "whatever"},
        {"origin": "http://localhost:3000"},
    ],
)
def test_without_a_master_key_this_machine_is_answered(
    client: httpx.Client, headers: dict[str, str]
) -> None:
    answer = client.post("/v1/embeddings", json=asked("small", "me"), headers=headers)

    assert vectors_in(answer.json()) == right(["me"])


@pytest.fixture(scope="module")
def guarded(pool: Pool) -> Iterator[tuple[httpx.Client, Program]]:
    """Another api of the same pool, with a master key."""
    with short_directory() as directory, ExitStack() as stack:
        fleet = stack.enter_context(Fleet(pool.store_url, directory))
        api = fleet.api(env={"EMBEDPOOL_MASTER_KEY": MASTER})
        fleet.wait_until_served(api)
        client = httpx.Client(base_url=fleet.url, trust_env=False, timeout=30)
        yield stack.enter_context(client), api


@pytest.mark.usefixtures("provider")
@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"authorization": f"Bearer {MASTER}"}, id="as a bearer"),
        pytest.param({"authorization": f"bearer   {MASTER}"}, id="written carelessly"),
        pytest.param({"api-key": MASTER}, id="as Azure's clients send it"),
        pytest.param({"authorization": f"Bearer {MASTER}", "api-key": MASTER}, id="twice"),
        pytest.param({"authorization": "Bearer", "api-key": MASTER}, id="beside an empty bearer"),
        pytest.param(
            {
                "authorization": f"Bearer {MASTER}",
                "host": "pool.example",
                "x-forwarded-for": "203.0.113.7",
            },
            id="from far away",
        ),
    ],
)
def test_the_master_key_opens(
    guarded: tuple[httpx.Client, Program], headers: dict[str, str]
) -> None:
    client, _ = guarded

    answer = client.post("/v1/embeddings", json=asked("small", "me"), headers=headers)

    assert vectors_in(answer.json()) == right(["me"])
    assert client.get("/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="none"),
        pytest.param({"authorization": "Bearer"}, id="an empty one"),
        pytest.param({"authorization": "Bearer wrong"}, id="a wrong one"),
        pytest.param({"authorization": f"Bearer {MASTER}x"}, id="a longer one"),
        pytest.param({"authorization": f"Bearer {MASTER[:-1]}"}, id="a shorter one"),
        pytest.param({"authorization": f"Basic {MASTER}"}, id="another scheme"),
        pytest.param({"api-key": "wrong"}, id="a wrong one of Azure's"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/models", "/v1/models/small"])
def test_any_other_key_does_not(
    guarded: tuple[httpx.Client, Program],
    provider: FakeProvider,
    headers: dict[str, str],
    path: str,
) -> None:
    client, _ = guarded
    body: Any = asked("small", "me") if path == "/v1/embeddings" else None

    answer = client.request("POST" if body else "GET", path, json=body, headers=headers)

    assert seen(answer) == INVALID
    assert error_of(answer)["message"].startswith("Invalid API key")
    assert MASTER[:-1] not in answer.text
    assert provider.totals.calls == 0


def test_two_different_keys_in_one_request_are_a_mistake(
    guarded: tuple[httpx.Client, Program],
) -> None:
    client, _ = guarded
    headers = {"authorization": f"Bearer {MASTER}", "api-key": "another"}

    answer = client.post("/v1/embeddings", json=asked("small", "me"), headers=headers)

    assert answer.status_code == 400
    assert MASTER not in answer.text


def test_health_needs_no_key(guarded: tuple[httpx.Client, Program]) -> None:
    client, _ = guarded

    assert [client.get(path).status_code for path in ("/healthz", "/readyz")] == [200, 200]


def test_no_secret_is_in_any_log_or_in_the_store(
    guarded: tuple[httpx.Client, Program], pool: Pool, provider: FakeProvider
) -> None:
    client, api = guarded
    headers = {"authorization": f"Bearer {MASTER}", "x-stainless-read-timeout": "1"}
    provider.behave(Behaviour(status=500, message=f"{CANARY} is what you sent"))
    bodies = [
        client.post("/v1/embeddings", json=asked("canary", f"{n}"), headers=headers).text
        for n in range(3)
    ]
    provider.behave()
    client.post("/v1/embeddings", json=asked("canary", "a good one"), headers=headers)

    assert provider.totals.by_key[CANARY] > 0
    assert MASTER not in str([call.headers for call in provider.calls])
    stored = [path.read_bytes() for path in files_of(pool.data_directory)]
    assert any(b"a good one" in content for content in stored)
    texts = [api.output, pool.program.output, *bodies]
    for secret in (CANARY, MASTER):
        assert not [text for text in texts if secret in text]
        assert not [content for content in stored if secret.encode() in content]


def files_of(directory: Path) -> list[Path]:
    """List what the store has written."""
    return [path for path in directory.rglob("*") if path.is_file()]
