"""Keys with limits: no minute at the provider sees more, however many workers share them.

A minute takes a minute, so these tests see the beginning of one; `python -m bench.keys` works for
several and measures what is got out of them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest

from e2e.asking import Answer, all_at_once, asked, right
from e2e.keys import MASTER, bearer, guarded
from e2e.limited import DIMS, MODEL, Crowd, Limits, exactly, fullest_of, one_text_per_call
from e2e.models import openai_entry
from e2e.pools import Pool, serving
from support.fake_provider import FakeProvider
from support.faults import Behaviour
from support.processes import wait_until

pytestmark = pytest.mark.long

RPM: Final = 60
WORKERS: Final = 4
CROWD: Final = 64
SECONDS: Final = 7.0
AT_LEAST: Final = 3
"""So many times as many texts, in these first seconds of a minute in which the client has spent all
of it at once; in the long run it is more than twenty times as many."""
LIMITS: Final = Limits(keys=("sk-limited-a-0123456789", "sk-limited-b-0123456789"), rpm=RPM)


def rare(name: str, fake: FakeProvider, **limits: int) -> dict[str, Any]:
    """Write the entry of a model with one key that has these limits."""
    listed = openai_entry(name, fake, f"sk-{name}", output_dimensions=DIMS)
    listed["litellm_params"] |= limits
    return listed


@pytest.fixture(scope="module")
def lasting_fake() -> Iterator[FakeProvider]:
    with FakeProvider.in_thread(dims=DIMS, latency_s=0.05, count_tokens=exactly) as provider:
        yield provider


@pytest.fixture(scope="module")
def pool(lasting_fake: FakeProvider) -> Iterator[Pool]:
    listed = [
        LIMITS.entry(lasting_fake),
        rare("rare", lasting_fake, rpm=2),
        rare("waits", lasting_fake, rpm=60),
        rare("few-tokens", lasting_fake, tpm=60),
        rare("stated", lasting_fake, rpm=600),
        rare("shown", lasting_fake, rpm=RPM),
    ]
    config = guarded(lasting_fake, *listed)
    with serving("--workers", f"{WORKERS}", config=config) as running:
        wait_until(lambda: len(running.workers()) == WORKERS, patience_s=10, what="four workers")
        yield running


async def ask(pool: Pool, model: str, text: str, **headers: str) -> Answer:
    given = bearer(MASTER) | {name.replace("_", "-"): value for name, value in headers.items()}
    (answer,) = await all_at_once(pool.url, [asked(model, text)], given)
    return answer


async def kill_a_worker(pool: Pool, *, after_s: float) -> None:
    await asyncio.sleep(after_s)
    os.kill(pool.workers()[0].pid, signal.SIGKILL)


async def test_four_workers_one_of_them_killed_never_exceed_a_keys_limit(
    pool: Pool, fake: FakeProvider
) -> None:
    LIMITS.hold(fake)
    crowd = Crowd(text_tokens=20, headers=bearer(MASTER))
    with FakeProvider.in_thread(latency_s=0.05) as plain:
        LIMITS.hold(plain)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(crowd.ask(pool.url, callers_count=CROWD, seconds=SECONDS))
            tasks.create_task(kill_a_worker(pool, after_s=SECONDS / 3))
            alone = tasks.create_task(
                one_text_per_call(plain, LIMITS.keys, callers_count=CROWD, seconds=SECONDS)
            )

    assert (crowd.refused, crowd.wrong) == ([], 0)
    assert fake.totals.by_status == {200: fake.totals.calls}
    for key in LIMITS.keys:
        assert fullest_of(fake, key)[0] <= RPM
    assert alone.result() == RPM * len(LIMITS.keys)
    assert crowd.answered >= AT_LEAST * alone.result()


async def test_above_a_limit_requests_wait_for_their_turn_and_no_429_is_seen(
    pool: Pool, fake: FakeProvider
) -> None:
    fake.behave(Behaviour(rpm=RPM))

    answers = [await ask(pool, "waits", f"number {number}") for number in range(10)]

    for number, answer in enumerate(answers):
        assert answer.status == 200
        assert answer.vectors == right([f"number {number}"], dims=DIMS)
    assert fake.totals.by_status == {200: 10}
    assert max(answer.took_s for answer in answers) > 0.5, "the burst was used up"


async def test_a_request_that_cannot_wait_so_long_is_refused_at_once_with_the_true_wait(
    pool: Pool, fake: FakeProvider
) -> None:
    fake.behave(Behaviour(rpm=2))
    began_at = time.monotonic()
    answers = [await ask(pool, "rare", f"{n}", x_stainless_read_timeout="4") for n in range(4)]

    allowed, refused = answers[:2], answers[2:]

    assert [answer.status for answer in allowed] == [200, 200]
    for answer in refused:
        assert (answer.status, answer.error["code"]) == (503, "overloaded")
        assert answer.took_s < 1.0
        assert 20 <= int(answer.headers["retry-after"]) <= 62
    assert time.monotonic() - began_at < 4
    assert fake.totals.by_status == {200: 2}


async def test_tokens_a_minute_are_kept_and_counted_as_the_provider_counts_them(
    pool: Pool, fake: FakeProvider
) -> None:
    fake.behave(Behaviour(tpm=60))
    ten_tokens = "one two three four five six seven eight nine ten"

    answers = [
        await ask(pool, "few-tokens", f"{ten_tokens}{'!' * n}", x_stainless_read_timeout="2")
        for n in range(1, 9)
    ]

    statuses = [answer.status for answer in answers]
    assert statuses.count(200) >= 1
    assert set(statuses) <= {200, 503, 504}
    assert fake.totals.by_status == {200: statuses.count(200)}
    assert fullest_of(fake, "sk-few-tokens")[1] <= 60


async def test_a_key_of_which_the_provider_says_that_nothing_remains_rests_until_its_reset(
    pool: Pool, fake: FakeProvider, plain_client: httpx.Client
) -> None:
    stated = {"limit": "30", "remaining": "0", "reset": "1.5s"}
    headers = {f"x-ratelimit-{name}-requests": value for name, value in stated.items()}
    fake.behave(Behaviour(headers=headers))
    first = await ask(pool, "stated", "first")
    said_at = fake.calls[-1].at
    wait_until(lambda: state_of(pool, plain_client, "stated")["rpm"] == 30, patience_s=3, what="30")
    fake.behave()

    then = [await ask(pool, "stated", f"then {number}") for number in range(3)]

    assert {answer.status for answer in (first, *then)} == {200}
    assert fake.calls[1].at - said_at >= 1.4
    assert max(answer.took_s for answer in then) < 3.0


def state_of(pool: Pool, client: httpx.Client, model: str) -> dict[str, Any]:
    """What `/pool/keys` shows of the one key of a model that is in use by now."""
    keys = client.get(f"{pool.url}/pool/keys", headers=bearer(MASTER)).json()["keys"]
    order = [MODEL, MODEL, "rare", "waits", "few-tokens", "stated", "shown"]
    return dict(keys[order.index(model)])


async def test_what_is_left_of_each_limit_is_shown(pool: Pool, plain_client: httpx.Client) -> None:
    assert (await ask(pool, "shown", "something")).status == 200

    def is_shown() -> bool:
        left = state_of(pool, plain_client, "shown")["remaining_requests"]
        return left is not None and 0 < left < RPM

    wait_until(is_shown, patience_s=3, what="fewer requests left")
    shown = state_of(pool, plain_client, "shown")
    assert (shown["rpm"], shown["condition"], shown["provider"]) == (RPM, "ready", "openai")
    assert "sk-shown" not in str(shown)
