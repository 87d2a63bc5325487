"""Callers with a provider's key of their own: it goes where they meant it to go, and stays nowhere.

One session has everything in it that could spill a key: debug logs, a provider that repeats what it
was sent, refusals, a worker that is killed with work in its hands.
"""

from __future__ import annotations

import asyncio
import os
import signal
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import httpx
import pytest

from e2e.asking import UPSTREAM, Answer, all_at_once, asked, callers, error_of, seen, vectors_in
from e2e.keys import MASTER, SHORT_DIMS, Office, bearer, books_of, guarded, short_entry
from e2e.load import until
from e2e.models import entry
from e2e.pools import Pool, serving
from support.fake_provider import FakeProvider
from support.faults import Behaviour
from support.vectors import vector_of

CANARY: Final = "sk-proj-canary-Qm7Zt2VxKp9LrW4nBd8HfYj3"
OTHER: Final = "sk-proj-another-Xc5Gb1NsTq6MwRk0"
OURS: Final = "sk-ours-7Hd3Lp9Qz"
SLOW: Final = Behaviour(latency_s=0.1)
CALLS: Final = 1_000
INVALID: Final = (401, "invalid_request_error", None, "invalid_api_key")
NOT_ALLOWED: Final = (403, "invalid_request_error", "model", "model_not_allowed")


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeProvider]:
    with FakeProvider.in_thread(dims=SHORT_DIMS) as provider:
        yield provider


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[FakeProvider]:
    """Another provider, to whom nobody's own key is meant to go."""
    with FakeProvider.in_thread(dims=SHORT_DIMS) as provider:
        yield provider


@pytest.fixture(scope="module")
def pool(fake: FakeProvider, elsewhere: FakeProvider) -> Iterator[Pool]:
    config = guarded(
        fake,
        open_entry("small", fake),
        short_entry("closed", fake, "sk-closed"),
        open_entry("both", fake),
        entry("both", f"azure/{UPSTREAM}", elsewhere.url, "az", output_dimensions=SHORT_DIMS),
        {"model_name": "wordllama", "litellm_params": {"model": "wordllama/wordllama"}},
        auth={
            "allow_passthrough_keys": True,
            "passthrough_rpm_per_address": 100_000,
            "passthrough_rpm": 100_000,
        },
    )
    debug = {"EMBEDPOOL_LOG_LEVEL": "DEBUG"}
    with serving("--workers", "2", config=config, env=debug) as running:
        yield running


def open_entry(name: str, fake: FakeProvider) -> dict[str, Any]:
    """Write an entry for a server that takes callers' own keys."""
    found = short_entry(name, fake, OURS)
    found["litellm_params"]["passthrough"] = True
    return found


@pytest.fixture
def provider(fake: FakeProvider, elsewhere: FakeProvider) -> Iterator[FakeProvider]:
    for one in (fake, elsewhere):
        one.behave()
        one.forget()
    yield fake
    fake.behave()


@pytest.fixture
def office(pool: Pool, plain_client: httpx.Client) -> Office:
    return Office(pool.url, plain_client)


def ask(office: Office, key: str, model: str = "small", text: Any = "mine") -> httpx.Response:
    body = asked(model, text)
    return office.client.post(f"{office.url}/v1/embeddings", json=body, headers=bearer(key))


def vectors_of(*texts: str) -> list[bytes]:
    return [vector_of(text, SHORT_DIMS, UPSTREAM) for text in texts]


def test_a_callers_own_key_goes_to_the_provider(office: Office, provider: FakeProvider) -> None:
    answer = ask(office, CANARY)

    assert answer.status_code == 200, answer.text
    assert vectors_in(answer.json()) == vectors_of("mine")
    assert [call.key for call in provider.calls] == [CANARY]


async def test_nobody_shares_a_call_or_a_text_with_a_callers_own_key(
    pool: Pool, provider: FakeProvider
) -> None:
    provider.behave(SLOW)
    keys = [CANARY, OTHER, MASTER]

    async def of(key: str) -> list[Answer]:
        bodies = [asked("small", [f"{n} of {key[-4:]}", f"{n} of all"]) for n in range(50)]
        return await all_at_once(pool.url, bodies, bearer(key))

    answered = dict(zip(keys, await asyncio.gather(*map(of, keys)), strict=True))

    for key, answers in answered.items():
        for number, answer in enumerate(answers):
            assert answer.vectors == vectors_of(f"{number} of {key[-4:]}", f"{number} of all")
    sent = {CANARY: CANARY, OTHER: OTHER, OURS: MASTER}
    for call in provider.calls:
        own = sent[call.key or ""][-4:]
        assert all(str(item).endswith((f" of {own}", " of all")) for item in call.items)
    assert provider.totals.items == 3 * 100
    # Its own requests may well travel together.
    assert all(calls < 50 for calls in provider.totals.by_key.values())


@pytest.mark.parametrize(
    ("status", "said", "shown"),
    [
        (401, {}, (401, "invalid_request_error")),
        (403, {}, (403, "invalid_request_error")),
        (404, {}, (404, "invalid_request_error")),
        (429, {"retry-after": "7"}, (429, "rate_limit_error")),
    ],
)
def test_what_the_provider_says_of_the_key_its_caller_hears(
    office: Office,
    provider: FakeProvider,
    status: int,
    said: dict[str, str],
    shown: tuple[int, str],
) -> None:
    message = f"no, not with {CANARY}, which you sent"
    provider.behave(Behaviour(key=CANARY, status=status, message=message, headers=said))

    refusals = [ask(office, CANARY, text=f"try {n}") for n in range(2)]

    provider.behave(Behaviour(key=OURS, status=500))
    good = ask(office, CANARY, text="again")
    for refusal in refusals:
        assert seen(refusal)[:2] == shown
        assert error_of(refusal)["message"].startswith("[openai] no, not with ")
        assert CANARY not in refusal.text
        assert refusal.headers.get("retry-after") == said.get("retry-after")
    # Asked each time, never rested, and never with a key of ours in its place.
    assert good.status_code == 200
    assert provider.totals.by_key == {CANARY: 3}


def test_a_refused_key_of_a_callers_own_harms_nobody_else(
    office: Office, provider: FakeProvider
) -> None:
    provider.behave(Behaviour(key=CANARY, status=401))

    assert ask(office, CANARY).status_code == 401
    assert ask(office, OTHER).status_code == 200
    assert ask(office, MASTER).status_code == 200


@pytest.mark.parametrize("model", ["closed", "both@azure", "wordllama"])
def test_a_callers_own_key_goes_nowhere_it_was_not_meant_for(
    office: Office, provider: FakeProvider, elsewhere: FakeProvider, model: str
) -> None:
    refusal = ask(office, CANARY, model)

    assert seen(refusal) == NOT_ALLOWED
    assert provider.totals.calls == elsewhere.totals.calls == 0


def test_a_failing_provider_is_not_replaced_by_another(
    office: Office, provider: FakeProvider, elsewhere: FakeProvider
) -> None:
    provider.behave(Behaviour(status=500))

    refusal = ask(office, CANARY, "both")

    assert refusal.status_code == 502
    assert set(provider.totals.by_key) == {CANARY}
    assert elsewhere.totals.calls == 0


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models"),
        ("GET", "/key/info"),
        ("GET", "/spend/logs"),
        ("POST", "/key/generate"),
    ],
)
def test_a_callers_own_key_embeds_and_does_nothing_else(
    office: Office, method: str, path: str
) -> None:
    body: dict[str, Any] = {"json": {}} if method == "POST" else {}

    assert office.ask(method, path, key=CANARY, **body).status_code == 403


@pytest.mark.parametrize("key", ["sk-ep-made-up-by-somebody-for-this-test", 'sk-"quoted"', "a b"])
def test_what_looks_like_ours_or_like_no_key_is_handed_to_nobody(
    office: Office, provider: FakeProvider, key: str
) -> None:
    assert seen(ask(office, key)) == INVALID
    assert provider.totals.calls == 0


def test_a_callers_own_key_is_counted_by_a_part_of_its_digest(
    office: Office, pool: Pool, provider: FakeProvider
) -> None:
    answer = ask(office, OTHER, text="counted")

    assert answer.status_code == 200
    with books_of(pool) as books:
        books.wait_until_nothing_is_held()
        accounts = books.accounts("passthrough")
        by_address = books.accounts("address")
        lasting = [name for name in by_address if books.lasts(name)]
    row = office.log(request_id=answer.headers["x-litellm-call-id"])[0]
    assert row["api_key"] in accounts
    assert len(row["api_key"].removeprefix("passthrough:")) == 16
    assert row["total_tokens"] == answer.json()["usage"]["total_tokens"]
    assert "x-ratelimit-remaining-requests" in answer.headers
    # Whoever can choose addresses must not fill the store with them.
    assert by_address
    assert lasting == []


def forms(secret: str) -> list[bytes]:
    """Write a secret in every way in which it could lie about."""
    raw = secret.encode()
    return [raw, b64encode(raw)[:-3], raw.hex().encode(), quote(secret, safe="").encode()]


async def test_no_key_is_found_anywhere_after_a_session_in_which_everything_went_wrong(
    pool: Pool, office: Office, provider: FakeProvider
) -> None:
    virtual = office.key(rpm_limit=10_000)
    bodies = [asked("small", f"remember me {n}") for n in range(CALLS)]
    texts = []
    provider.behave(
        *(Behaviour(containing=f"{n} failing", status=s, message=f"you sent {CANARY} and {virtual}")
          for n, s in enumerate((400, 401, 403, 404, 422, 429, 500))),
        Behaviour(latency_s=0.05),
    )  # fmt: skip

    for key, model in ((CANARY, "small"), (virtual, "closed")):
        answers = await all_at_once(pool.url, bodies, bearer(key))
        assert {answer.status for answer in answers} == {200}
        failing = [ask(office, key, model, f"{n} failing") for n in range(7)]
        texts += [answer.text + str(answer.headers) for answer in failing]
    provider.behave(Behaviour(latency_s=1))
    async with callers(20, pool.url) as waiting:
        for number, caller in enumerate(waiting):
            key = (CANARY, virtual)[number % 2]
            caller.send(asked("small", f"in flight {number}"), bearer(key))
        await until(lambda: provider.traffic.in_flight > 0, "a worker has them in its hands")
        for worker in pool.workers():
            os.kill(worker.pid, signal.SIGKILL)
        written = await asyncio.to_thread(all_written, pool)
        provider.behave()
        last = await asyncio.gather(*(caller.receive() for caller in waiting))

    assert [status for status, _, _ in last] == [200] * 20
    texts += [str(answer) for answer in last]
    for path in ("/metrics", "/key/list?return_full_object=true", "/spend/logs", "/spend/keys"):
        texts.append(office.ask("GET", path).text)
    texts.append(pool.program.output)
    written += await asyncio.to_thread(all_written, pool)
    assert '"level":"debug"' in pool.program.output
    assert any(b"remember me" in content for content in written)
    for secret in (CANARY, virtual, OURS, MASTER):
        for form in forms(secret):
            assert not [text for text in texts if form.decode() in text]
            assert not [content for content in written if form in content]


def all_written(pool: Pool) -> list[bytes]:
    """Have the store write all it has, and read every file of the data directory."""
    with books_of(pool) as books:
        books.dump()
    return [path.read_bytes() for path in files_in(pool.data_directory)]


def files_in(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]
