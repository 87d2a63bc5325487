"""Nobody waits longer than they said, and nobody who has gone is worked for."""

from __future__ import annotations

import asyncio

import httpx
import openai
import pytest

from e2e.asking import Caller, asked, callers, right, seen
from e2e.load import until
from e2e.pools import Pool
from e2e.store import Store
from support.fake_provider import FakeProvider
from support.faults import Behaviour, Ending

SLOTS = 8
"""Calls at a time with one key; more requests wait unsent."""


@pytest.mark.usefixtures("store")
def test_the_openai_client_gets_our_answer_before_its_own_timeout(
    pool: Pool, provider: FakeProvider
) -> None:
    provider.behave(Behaviour(ending=Ending.HANG))
    http = httpx.Client(trust_env=False)
    with (
        openai.OpenAI(
            base_url=f"{pool.url}/v1", api_key="unused", http_client=http, timeout=2, max_retries=0
        ) as client,
        pytest.raises(openai.InternalServerError) as caught,
    ):
        client.embeddings.create(model="small", input="wait")

    assert caught.value.status_code == 504
    assert caught.value.code == "timeout"


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("headers", "fields"),
    [
        pytest.param({"x-stainless-read-timeout": "1"}, {}, id="openai's header"),
        pytest.param({"x-litellm-timeout": "1"}, {}, id="litellm's header"),
        pytest.param({}, {"timeout": 1}, id="litellm's field"),
        pytest.param(
            {"x-stainless-read-timeout": "600", "x-litellm-timeout": "1"},
            {"timeout": 30},
            id="the shortest of all",
        ),
    ],
)
def test_every_way_to_say_how_long_is_heard(
    client: httpx.Client,
    provider: FakeProvider,
    headers: dict[str, str],
    fields: dict[str, float],
) -> None:
    provider.behave(Behaviour(ending=Ending.HANG))

    answer = client.post("/v1/embeddings", json=asked("small", "wait", **fields), headers=headers)

    assert seen(answer) == (504, "timeout_error", None, "timeout")
    assert answer.elapsed.total_seconds() < 1


async def test_what_was_not_sent_when_its_caller_left_is_never_sent(
    pool: Pool, provider: FakeProvider, store: Store
) -> None:
    provider.behave(Behaviour(containing="stays", latency_s=2.0))
    async with callers(SLOTS, pool.url) as staying, callers(50, pool.url) as leaving:
        await occupy_every_slot(staying, provider)
        for n, caller in enumerate(leaving):
            caller.send(asked("occupied", [f"leaves {n}", f"leaves {n} too"]))
        await until(lambda: store.waiting("occupied") == SLOTS + 100, "all of them waiting")

        await asyncio.gather(*(caller.hang_up() for caller in leaving))
        answers = [await caller.receive() for caller in staying]

    assert [status for status, _, _ in answers] == [200] * SLOTS
    store.wait_until_quiet()
    assert {item for call in provider.calls for item in call.items} == {
        f"stays {n}" for n in range(SLOTS)
    }
    unused = [record for record in store.ledger("occupied") if record.reason == "cancelled"]
    assert len(unused) == 50
    assert {(one.used, one.paid, one.waste) for one in unused} == {(0, 0, 0)}


async def occupy_every_slot(staying: list[Caller], provider: FakeProvider) -> None:
    """Give each caller a provider call of its own."""
    for n, caller in enumerate(staying):
        caller.send(asked("occupied", f"stays {n}"))
        await until(lambda sent=n + 1: provider.totals.calls == sent, "a call of its own")  # type: ignore[misc]


async def test_callers_who_leave_at_any_moment_leave_nothing_behind(
    pool: Pool, provider: FakeProvider, store: Store
) -> None:
    provider.behave(Behaviour(latency_s=0.3))
    async with callers(50, pool.url) as leaving:
        for n, caller in enumerate(leaving):
            caller.send(asked("small", f"leaves {n}"))
            if n % 2:
                await caller.hang_up()
        await until(lambda: provider.totals.calls > 0, "a first call")

    async with callers(1, pool.url) as (next_one,):
        answer = await next_one.ask(asked("small", "stays"))

    assert answer.vectors == right(["stays"])
    store.wait_until_quiet()
