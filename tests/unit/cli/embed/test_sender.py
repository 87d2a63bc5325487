"""One try to get texts embedded, over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from embedpool_cli.embed import sender
from embedpool_cli.embed.answers import Answered, Refusal, Verdict
from embedpool_cli.embed.sender import Sender
from support.fake_provider import FakeProvider
from support.faults import Behaviour
from support.ports import free_port
from support.vectors import vector_of

DIMS = 24
MODEL = "m"
KEY = "sk-caller"


def asked(
    url: str, texts: Sequence[str] = ("a", "b"), *, times: int = 1, dimensions: int | None = None
) -> Answered | Refusal:
    """Ask so many times in a row; return the last answer."""

    async def main() -> Answered | Refusal:
        async with Sender(url, KEY, model=MODEL, dimensions=dimensions) as pool:
            return [await pool.ask(texts) for _ in range(times)][-1]

    return asyncio.run(main())


def test_texts_come_back_as_vectors_over_one_connection() -> None:
    with FakeProvider.in_thread(dims=DIMS) as fake:
        answer = asked(fake.url, times=3)
        traffic, calls = fake.traffic, fake.calls

    assert isinstance(answer, Answered)
    assert [bytes(one) for one in answer.vectors] == [
        vector_of(text, DIMS, MODEL) for text in ("a", "b")
    ]
    assert (answer.dims, answer.tokens) == (DIMS, calls[0].tokens)
    assert traffic.connections == 1
    assert {call.headers["authorization"] for call in calls} == {f"Bearer {KEY}"}
    assert {call.headers["x-embedpool-class"] for call in calls} == {"bulk"}


def test_dimensions_are_asked_for() -> None:
    with FakeProvider.in_thread(dims=DIMS) as fake:
        answer = asked(fake.url, dimensions=12)

    assert isinstance(answer, Answered)
    assert answer.dims == 12


def test_a_refusal_says_when_to_come_again() -> None:
    with FakeProvider.in_thread(dims=DIMS) as fake:
        fake.behave(Behaviour(status=429, headers={"Retry-After": "7"}))
        answer = asked(fake.url)

    assert isinstance(answer, Refusal)
    assert (answer.status, answer.verdict, answer.retry_after_s) == (429, Verdict.WAIT, 7.0)


def test_nobody_there_is_waited_for() -> None:
    answer = asked(f"http://127.0.0.1:{free_port()}")

    assert isinstance(answer, Refusal)
    assert answer.verdict is Verdict.WAIT
    assert "connection failed" in answer.reason
    assert KEY not in answer.reason


def test_an_answer_that_does_not_come_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "ANSWER_PATIENCE_S", 0.05)
    with FakeProvider.in_thread(dims=DIMS, latency_s=30.0) as fake:
        answer = asked(fake.url)

    assert answer == Refusal(Verdict.WAIT, "no answer within 0.05 s")


def test_a_redirect_is_not_followed() -> None:
    with FakeProvider.in_thread(dims=DIMS) as fake:
        fake.behave(Behaviour(status=307, headers={"location": f"{fake.url}/elsewhere"}))
        answer = asked(fake.url)
        calls = len(fake.calls)

    assert isinstance(answer, Refusal)
    assert (answer.verdict, calls) == (Verdict.STOP, 1)
