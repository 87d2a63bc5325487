"""Limits hold to the last request, however many ask at once and whichever api process they ask.

All tests share three api processes in front of one Valkey; each has keys of its own.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

import httpx
import openai
import pytest

from e2e.asking import Answer, Caller, all_at_once, asked, callers
from e2e.keys import Books, Office, books_of, guarded, short_entry
from e2e.keys import bearer as as_holder
from e2e.load import until
from e2e.pools import SECRET, Fleet, Pool, serving, short_directory
from embedpool_shared import tokens
from support.fake_provider import FakeProvider
from support.faults import Behaviour

pytestmark = pytest.mark.long

API_PROCESSES: Final = 3
CROWD: Final = 500
ROOM: Final = 100
TEN_TOKENS: Final = "one two three four five six seven eight nine ten"
CENT_EACH: Final = 0.001
"""Dollars for a token, so that ten cost a cent."""
MINUTE_MS: Final = 60_001
SLOW: Final = Behaviour(latency_s=0.6)


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeProvider]:
    with FakeProvider.in_thread(dims=24) as provider:
        yield provider


@pytest.fixture(scope="module")
def config(fake: FakeProvider) -> dict[str, Any]:
    assert tokens.count("cl100k_base", TEN_TOKENS) == 10
    dear = short_entry("dear", fake, input_cost_per_token=CENT_EACH)
    return guarded(fake, short_entry("small", fake), dear)


@pytest.fixture(scope="module")
def pool(config: dict[str, Any]) -> Iterator[Pool]:
    with serving(config=config, env={"EMBEDPOOL_SECRET": SECRET}) as running:
        yield running


@pytest.fixture(scope="module")
def urls(pool: Pool, config: dict[str, Any]) -> Iterator[list[str]]:
    """Where each api process is: the pool's own, and others beside it."""
    with short_directory() as directory, Fleet(pool.store_url, directory, config=config) as fleet:
        found = [pool.url]
        while len(found) < API_PROCESSES:
            fleet.wait_until_served(fleet.api())
            found.append(fleet.url)
        yield found


@pytest.fixture
def office(pool: Pool, plain_client: httpx.Client) -> Office:
    return Office(pool.url, plain_client)


@pytest.fixture
def books(pool: Pool, fake: FakeProvider) -> Iterator[Books]:
    """Nothing is held before the test and after it."""
    fake.forget()
    with books_of(pool) as found:
        yield found
        fake.behave()
        found.wait_until_nothing_is_held()


async def crowd(
    urls: Sequence[str],
    keys: Sequence[str],
    count: int = CROWD,
    *,
    model: str = "small",
    text: str = "{}",
) -> list[Answer]:
    """Ask so often at once, one api process after the other, with one key after the other."""
    async with AsyncExitStack() as stack:
        of_each = -(-count // len(urls))
        lines = [await stack.enter_async_context(callers(of_each, url)) for url in urls]
        connected: list[Caller] = [caller for line in zip(*lines, strict=True) for caller in line][
            :count
        ]
        return await asyncio.gather(
            *(
                caller.ask(asked(model, text.format(n)), as_holder(keys[n % len(keys)]))
                for n, caller in enumerate(connected)
            )
        )


def statuses(answers: Sequence[Answer]) -> dict[int, int]:
    return dict(Counter(answer.status for answer in answers))


def refused(answers: Sequence[Answer]) -> list[Answer]:
    return [answer for answer in answers if answer.status != 200]


async def test_of_five_hundred_at_once_exactly_as_many_pass_as_a_key_has_room_for(
    urls: list[str], office: Office, books: Books, fake: FakeProvider
) -> None:
    key = office.key(rpm_limit=ROOM)

    answers = await crowd(urls, [key])

    assert statuses(answers) == {200: ROOM, 429: CROWD - ROOM}
    assert fake.totals.items == ROOM
    slowest_ms = max(answer.took_s for answer in answers) * 1_000
    for answer in refused(answers):
        assert (answer.error["type"], answer.error["code"]) == (
            "rate_limit_error",
            "rate_limit_exceeded",
        )
        assert answer.error["message"].startswith("Rate limit exceeded for key")
        wait_ms = int(answer.headers["retry-after-ms"])
        # The first one counts until a minute after it was let in, which was during these seconds.
        assert MINUTE_MS - slowest_ms <= wait_ms <= MINUTE_MS
        assert int(answer.headers["retry-after"]) == -(-wait_ms // 1_000)


async def test_whoever_passes_is_told_what_is_left(
    urls: list[str], office: Office, books: Books
) -> None:
    key = office.key(rpm_limit=40, tpm_limit=10_000)

    answers = await crowd(urls, [key], 40, text=TEN_TOKENS + " {}")

    left = {int(answer.headers["x-ratelimit-remaining-requests"]) for answer in answers}
    assert left == set(range(40))
    assert {answer.headers["x-ratelimit-limit-requests"] for answer in answers} == {"40"}
    assert {answer.headers["x-ratelimit-limit-tokens"] for answer in answers} == {"10000"}
    used = sum(answer.body["usage"]["total_tokens"] for answer in answers)
    assert min(int(answer.headers["x-ratelimit-remaining-tokens"]) for answer in answers) == (
        10_000 - used
    )
    assert all(answer.headers["x-ratelimit-reset-requests"] for answer in answers)
    token_id = office.of_key(key)["token_id"]
    assert books.admitted(f"key:{token_id}") == (40, used)


async def test_tokens_a_minute_hold_to_the_last_token(
    urls: list[str], office: Office, books: Books
) -> None:
    made = office.made(tpm_limit=10 * ROOM + 9)

    answers = await crowd(urls, [made["key"]], text=TEN_TOKENS)

    assert statuses(answers) == {200: ROOM, 429: CROWD - ROOM}
    assert books.admitted(f"key:{made['token_id']}") == (ROOM, 10 * ROOM)
    assert {answer.error["code"] for answer in refused(answers)} == {"rate_limit_exceeded"}
    assert all("tokens per minute" in answer.error["message"] for answer in refused(answers))


async def test_a_budget_of_a_dollar_buys_a_hundred_requests_of_a_cent(
    urls: list[str], office: Office, books: Books
) -> None:
    made = office.made(max_budget=1.0)
    key = made["key"]

    answers = await crowd(urls, [key], model="dear", text=TEN_TOKENS)

    for answer in refused(answers):
        assert answer.status == 429
        assert answer.error["type"] == "insufficient_quota"
        assert answer.error["code"] == "budget_exceeded"
        assert answer.headers["x-should-retry"] == "false"
        assert "retry-after" not in answer.headers
    passed = statuses(answers)[200]
    assert 1 <= passed <= ROOM
    books.wait_until_settled()
    # What others reserved and did not spend is there for the next one, to the last cent.
    again = await crowd(urls, [key], ROOM + 1 - passed, model="dear", text=TEN_TOKENS)
    assert statuses(again).get(200, 0) == ROOM - passed
    books.wait_until_nothing_is_held()
    assert books.sums(f"key:{made['token_id']}")["cost"] == 10**12
    assert office.of_key(key)["spend"] == 1.0


async def test_no_more_than_allowed_are_in_flight_at_once(
    urls: list[str], office: Office, books: Books, fake: FakeProvider
) -> None:
    key = office.key(max_parallel_requests=10)
    fake.behave(SLOW)

    first = await crowd(urls, [key], ROOM)
    books.wait_until_nothing_is_held()
    second = await crowd(urls, [key], 10)

    assert statuses(first) == {200: 10, 429: ROOM - 10}
    assert statuses(second) == {200: 10}
    assert "10 parallel requests" in refused(first)[0].error["message"]
    books.wait_until_nothing_is_held()


async def test_callers_who_hang_up_make_room_for_others(
    pool: Pool, office: Office, books: Books, fake: FakeProvider
) -> None:
    key = office.key(max_parallel_requests=10)
    fake.behave(Behaviour(latency_s=1.5))
    async with callers(10, pool.url) as gone:
        for number, caller in enumerate(gone):
            caller.send(asked("small", f"never mind {number}"), as_holder(key))
        await until(lambda: fake.totals.items >= 10, "all ten are on their way")

    fake.behave()
    async with callers(1, pool.url) as (caller,):
        tries = [await caller.ask(asked("small", "my turn?"), as_holder(key))]
        while tries[-1].status != 200 and len(tries) < 100:
            await asyncio.sleep(0.02)
            tries.append(await caller.ask(asked("small", "my turn?"), as_holder(key)))
    assert tries[-1].status == 200
    books.wait_until_nothing_is_held()


@pytest.mark.parametrize("kind", ["team", "user"])
async def test_a_teams_and_a_users_limits_bound_all_their_keys_together(
    urls: list[str], office: Office, books: Books, kind: str
) -> None:
    owner = f"the-{kind}-of-many-keys"
    office.post(f"/{kind}/new", **{f"{kind}_id": owner, "rpm_limit": 30})
    made = [office.made(rpm_limit=1_000, **{f"{kind}_id": owner}) for _ in range(3)]

    answers = await crowd(urls, [one["key"] for one in made], 150)

    assert statuses(answers) == {200: 30, 429: 120}
    for answer in refused(answers):
        assert answer.error["message"].startswith(f"Rate limit exceeded for {kind}")
        assert answer.headers["x-ratelimit-limit-requests"] == "30"
    # Whoever the one refuses, the other has to let go of.
    books.wait_until_nothing_is_held()
    let_in = [books.admitted(f"key:{one['token_id']}")[0] for one in made]
    assert sum(let_in) == books.admitted(f"{kind}:{owner}")[0] == 30


async def test_a_teams_budget_is_one_budget(urls: list[str], office: Office, books: Books) -> None:
    office.post("/team/new", team_id="thrifty", max_budget=0.1)
    keys = [office.key(team_id="thrifty", max_budget=5) for _ in range(2)]

    answers = await crowd(urls, keys, 60, model="dear", text=TEN_TOKENS)

    assert 1 <= statuses(answers)[200] <= 10
    assert {answer.error["code"] for answer in refused(answers)} == {"budget_exceeded"}
    assert all("for team" in answer.error["message"] for answer in refused(answers))
    books.wait_until_nothing_is_held()
    assert books.sums("team:thrifty")["cost"] == statuses(answers)[200] * 10**10


@pytest.mark.parametrize("limit", [{"tpm_limit": 9}, {"max_budget": 0.009}])
async def test_what_no_wait_could_help_is_refused_for_good(
    urls: list[str], office: Office, books: Books, fake: FakeProvider, limit: dict[str, float]
) -> None:
    (answer,) = await crowd(urls, [office.key(**limit)], 1, model="dear", text=TEN_TOKENS)

    assert answer.status == 400
    assert answer.error["type"] == "invalid_request_error"
    assert answer.error["code"] == "request_exceeds_limit"
    assert "retry-after" not in answer.headers
    assert fake.totals.calls == 0
    assert books.held() == {}


async def test_a_key_without_limits_leaves_no_trace_of_any(
    urls: list[str], office: Office, books: Books
) -> None:
    made = office.made()

    answers = await crowd(urls, [made["key"]], 50)

    assert statuses(answers) == {200: 50}
    assert not [name for name in answers[0].headers if name.startswith("x-ratelimit")]
    assert books.admitted(f"key:{made['token_id']}") == (0, 0)


async def test_what_failed_counts_as_a_request_but_not_as_tokens(
    pool: Pool, office: Office, books: Books, fake: FakeProvider
) -> None:
    made = office.made(rpm_limit=50, tpm_limit=1_000, max_budget=1)
    fake.behave(Behaviour(containing="poison", status=400))

    headers = as_holder(made["key"])
    await all_at_once(pool.url, [asked("dear", "this is poison")] * 3, headers)

    books.wait_until_nothing_is_held()
    account = f"key:{made['token_id']}"
    assert books.admitted(account) == (3, 0)
    assert books.sums(account)["cost"] == 0


def test_openais_client_gives_up_at_once_when_the_budget_is_used_up(
    pool: Pool, office: Office, books: Books
) -> None:
    made = office.made(max_budget=0.01)
    with openai.OpenAI(base_url=f"{pool.url}/v1", api_key=made["key"]) as client:
        client.embeddings.create(model="dear", input=TEN_TOKENS)

        with pytest.raises(openai.RateLimitError) as caught:
            client.embeddings.create(model="dear", input=TEN_TOKENS)

    assert caught.value.code == "budget_exceeded"
    assert caught.value.response.request.headers["x-stainless-retry-count"] == "0"
    books.wait_until_nothing_is_held()
    assert books.sums(f"key:{made['token_id']}")["requests"] == 1
