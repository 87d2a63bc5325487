"""When much or everything fails: how often the provider is asked again, and what callers get.

The breaker is as good as off here, so that nothing but the budget for second tries holds. What the
budget saved counts from the worker's start, so calls are counted from there as well. The storms may
last longer: `EMBEDPOOL_TEST_STORM_S`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from typing import Final

import pytest

from e2e.asking import Answer, Caller, asked, callers
from e2e.keys import short_entry
from e2e.pools import Pool, serving
from support.fake_provider import FakeProvider
from support.faults import Behaviour

pytestmark = pytest.mark.long

STORM_S: Final = float(os.environ.get("EMBEDPOOL_TEST_STORM_S", "3"))
CROWD: Final = 16
SHARE: Final = 0.2
PER_S: Final = 10.0


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeProvider]:
    with FakeProvider.in_thread(dims=24, latency_s=0.01) as provider:
        yield provider


@pytest.fixture
def pool(fake: FakeProvider) -> Iterator[Pool]:
    fake.forget()
    config = {
        "model_list": [short_entry("m", fake, "sk-a", "sk-b")],
        "router_settings": {"allowed_fails": 1_000_000},
    }
    with serving(config=config) as running:
        yield running
    fake.behave()


async def storm(pool: Pool, name: str, *, seconds: float) -> list[Answer]:
    """Ask from a crowd for so long, whatever comes back."""
    ends_at = time.monotonic() + seconds
    answers: list[Answer] = []

    async def keep_asking(caller: Caller, number: int) -> None:
        count = 0
        while time.monotonic() < ends_at:
            answers.append(await caller.ask(asked("m", f"{name} {number} {count}")))
            count += 1

    async with callers(CROWD, pool.url) as connected:
        await asyncio.gather(*(keep_asking(one, n) for n, one in enumerate(connected)))
    return answers


async def test_second_tries_stay_few_however_much_fails(pool: Pool, fake: FakeProvider) -> None:
    began_at = time.monotonic()
    fake.behave(Behaviour(status=500))
    nothing_good = await storm(pool, "all fail", seconds=STORM_S)
    assert_few_second_tries(fake, lasted_s=time.monotonic() - began_at)

    fake.behave(Behaviour(every=3, status=500))
    much_good = await storm(pool, "some fail", seconds=STORM_S)
    assert_few_second_tries(fake, lasted_s=time.monotonic() - began_at)

    assert {answer.status for answer in nothing_good} == {502}
    statuses = [answer.status for answer in much_good]
    assert set(statuses) <= {200, 502}
    assert statuses.count(200) >= 0.6 * len(statuses)


def assert_few_second_tries(fake: FakeProvider, *, lasted_s: float) -> None:
    calls = [tuple(map(str, call.items)) for call in fake.calls]
    first = len(set(calls))  # a second try sends the same
    assert first < len(calls) <= (1 + SHARE) * first + PER_S * (lasted_s + 1)
