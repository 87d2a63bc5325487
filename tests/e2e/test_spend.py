"""Every token is billed once: to whoever used it, for what the provider was paid, and no more.

What a caller was answered is known from its `usage`, what the provider was paid for from its own
count, and what embedpool billed from its accounts and its usage records.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import Any, Final

import httpx
import pytest

from e2e.asking import Answer, Caller, all_at_once, asked, callers
from e2e.keys import SHORT_DIMS, Books, Office, Row, bearer, books_of, guarded, short_entry
from e2e.load import until
from e2e.models import entry
from e2e.pools import Pool, serving
from embedpool_shared import tokens
from support.fake_provider import FakeProvider
from support.faults import Behaviour
from support.vectors import Input

pytestmark = pytest.mark.long

REQUESTS: Final = 10_000
CONNECTIONS: Final = 64
PICO: Final = 10**12
PRICES: Final = {"small": 20_000, "own": 130_000}
"""Pico-dollars for a token: OpenAI's price from the map, and one that the file says."""
GREEDY: Final = "counted generously"
GREED: Final = 5
"""How many tokens the provider adds to texts that begin so."""
FLAKY_EVERY: Final = 125
COLUMNS: Final = ("used", "paid", "saved", "waste")


def exact_count(item: Input) -> int:
    """Count as OpenAI bills, so that the provider's figure is the caller's own; but see GREEDY."""
    if not isinstance(item, str):
        return len(item)
    return tokens.count("cl100k_base", item) + (GREED if item.startswith(GREEDY) else 0)


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeProvider]:
    with FakeProvider.in_thread(dims=SHORT_DIMS, count_tokens=exact_count) as provider:
        yield provider


@pytest.fixture(scope="module")
def pool(fake: FakeProvider) -> Iterator[Pool]:
    own = entry(
        "own",
        "hosted_vllm/some-model",
        fake.api_base,
        "sk-own",
        output_dimensions=SHORT_DIMS,
        input_cost_per_token=PRICES["own"] / PICO,
    )
    config = guarded(fake, short_entry("small", fake), own)
    with serving("--workers", "2", "--api-processes", "2", config=config) as running:
        yield running


@pytest.fixture
def office(pool: Pool, plain_client: httpx.Client) -> Office:
    return Office(pool.url, plain_client)


@pytest.fixture
def books(pool: Pool, fake: FakeProvider) -> Iterator[Books]:
    fake.forget()
    with books_of(pool) as found:
        found.wait_until_settled()
        yield found
        fake.behave()
        found.wait_until_nothing_is_held(patience_s=30)


@dataclass(frozen=True, slots=True)
class Payer:
    """A virtual key and whom it belongs to."""

    key: str
    token_id: str
    team: str
    user: str


@dataclass(frozen=True, slots=True)
class Ask:
    """One request of a load."""

    payer: Payer
    model: str
    body: Mapping[str, Any]
    headers: Mapping[str, str]


@dataclass(slots=True)
class Bills:
    """What callers were told they used, by whatever it should be counted for."""

    tokens: Counter[str] = field(default_factory=Counter)
    cost: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)

    def add(self, ask: Ask, answer: Answer) -> None:
        """Count an answer for everybody it concerns."""
        used = answer.body["usage"]["total_tokens"]
        told = Decimal(answer.headers["x-embedpool-cost-usd"]) * PICO
        payer = ask.payer
        assert told == used * PRICES[ask.model]
        for account in (
            f"key:{payer.token_id}", f"team:{payer.team}", f"user:{payer.user}",
            f"tag:{ask.headers['x-litellm-tags']}", f"end_user:{ask.body['user']}",
            f"model:{ask.model}", "global:all",
        ):  # fmt: skip
            self.tokens[account] += used
            self.cost[account] += int(told)
            self.requests[account] += 1


def payers_of(office: Office, name: str) -> list[Payer]:
    """Make keys of two teams and three users; every other one has limits it never reaches."""
    for number in range(2):
        office.post("/team/new", team_id=f"{name}-team-{number}", max_budget=1_000)
    limits: list[dict[str, Any]] = [
        {},
        {"rpm_limit": 10**6, "tpm_limit": 10**9},
        {"max_budget": 1_000.0, "budget_duration": "30d"},
        {"max_parallel_requests": 1_000},
        {"default_class": "bulk"},
        {"share_across": "key", "tpm_limit": 10**9},
    ]
    made = []
    for number, some in enumerate(limits):
        team, user = f"{name}-team-{number % 2}", f"{name}-user-{number % 3}"
        key = office.made(team_id=team, user_id=user, **some)
        made.append(Payer(key["key"], key["token_id"], team, user))
    return made


def words(draw: random.Random, number: int) -> str:
    """Write a text nobody else writes; some are far longer than others."""
    count = draw.choice((1, 3, 3, 8, 20, 120))
    return f"{number}: " + " ".join(draw.choices(VOCABULARY, k=count))


VOCABULARY: Final = [
    "pool",
    "embedding",
    "Vektor",
    "naïve",
    "短い",
    "text",
    "queue",
    "of",
    "many",
    "callers",
    "Größe",
    "🙂",
    "x",
]


def mixed(payers: Sequence[Payer], count: int, *, seed: int) -> list[Ask]:
    """Write requests of every size and kind; no two of them have an input in common."""
    draw = random.Random(seed)
    asks = []
    for number in range(count):
        model = draw.choice(("small", "small", "own"))
        size = draw.choice((1, 1, 1, 1, 1, 2, 5)) if number % 200 else 70
        given: Any = [words(draw, number * 100 + i) for i in range(size)]
        if model == "small" and draw.random() < 0.15:
            given = [ids(draw, number * 100 + i) for i in range(size)]
        given = given[0] if size == 1 else given
        body = asked(model, given, user=f"end-user-{number % 5}")
        if draw.random() < 0.3:
            body["encoding_format"] = "float"
        payer = payers[number % len(payers)]
        headers = bearer(payer.key) | {
            "x-litellm-tags": f"tag-{number % 4}",
            "x-request-id": f"load-{seed}-{number}",
        }
        asks.append(Ask(payer, model, body, headers))
    return asks


def ids(draw: random.Random, number: int) -> list[int]:
    """Write a token array nobody else writes."""
    return [1_000 + number // 1_000, 1_000 + number % 1_000, *draw.choices(range(5_000), k=9)]


async def answered(pool: Pool, asks: Sequence[Ask]) -> list[Answer]:
    """Ask all of it on many connections, each asking one thing after the other."""
    todo, answers = iter(enumerate(asks)), dict[int, Answer]()

    async def keep_asking(caller: Caller) -> None:
        for number, ask in todo:
            answers[number] = await caller.ask(ask.body, ask.headers)

    async with callers(CONNECTIONS, pool.url) as connected:
        await asyncio.gather(*map(keep_asking, connected))
    return [answers[number] for number in range(len(asks))]


async def test_what_callers_were_told_is_what_is_billed_and_what_was_paid_for(
    pool: Pool, office: Office, books: Books, fake: FakeProvider
) -> None:
    payers = payers_of(office, "exact")
    asks = mixed(payers, REQUESTS, seed=1)

    answers = await answered(pool, asks)

    assert {answer.status for answer in answers} == {200}
    bills = Bills()
    for ask, answer in zip(asks, answers, strict=True):
        bills.add(ask, answer)
    books.wait_until_settled()
    assert bills.tokens["global:all"] == fake.totals.tokens
    for account, used in bills.tokens.items():
        assert books.sums(account) == {
            "requests": bills.requests[account],
            "cost": bills.cost[account],
            "used": used,
            "paid": used,
            "saved": 0,
            "waste": 0,
        }
    shown = office.spending("key")
    assert {payer.token_id: shown[payer.token_id]["total_tokens"] for payer in payers} == {
        payer.token_id: bills.tokens[f"key:{payer.token_id}"] for payer in payers
    }
    assert fake.totals.calls < REQUESTS


async def test_what_a_provider_counts_too_much_costs_no_caller_and_is_no_failure(
    pool: Pool, office: Office, books: Books, fake: FakeProvider
) -> None:
    key = office.made()
    fake.behave(Behaviour(latency_s=0.2))
    texts = [f"{GREEDY} {number}" for number in range(40)]

    answers = await all_at_once(
        pool.url, [asked("small", one) for one in texts], bearer(key["key"])
    )

    used = sum(answer.body["usage"]["total_tokens"] for answer in answers)
    books.wait_until_settled()
    sums = books.sums(f"key:{key['token_id']}")
    assert (sums["used"], sums["cost"]) == (used, used * PRICES["small"])
    assert sums["paid"] == fake.totals.tokens == used + sums["waste"]
    assert sums["waste"] > 0
    rows = office.log(api_key=key["token_id"])
    assert {row["status"] for row in rows} == {"success"}
    assert "count" in {row["reason"] for row in rows}


@dataclass(slots=True)
class Turmoil:
    """A load in which much goes wrong, and how each of its requests ended for its caller."""

    pool: Pool
    asks: Sequence[Ask]
    answers: dict[str, Answer] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    """Requests whose callers did not wait for the answer."""

    async def run(self) -> None:
        """Ask everything, and kill workers on the way: one of them, later all."""
        todo = iter(self.asks)
        async with asyncio.TaskGroup() as tasks:
            for number in range(CONNECTIONS):
                tasks.create_task(self._keep_asking(todo, random.Random(number)))
            for share, victims in ((0.25, 1), (0.6, 2)):
                await until(partial(self._have_ended, share), "a kill")
                for victim in self.pool.workers()[:victims]:
                    with suppress(ProcessLookupError):
                        os.kill(victim.pid, signal.SIGKILL)

    def _have_ended(self, share: float) -> bool:
        return len(self.answers) + len(self.gone) >= share * len(self.asks)

    async def _keep_asking(self, todo: Iterator[Ask], draw: random.Random) -> None:
        for ask in todo:
            name = ask.headers["x-request-id"]
            async with callers(1, self.pool.url) as (caller,):
                if draw.random() < 0.1:
                    caller.send(ask.body, ask.headers)
                    await asyncio.sleep(draw.choice((0, 0.002, 0.01, 0.05)))
                    self.gone.add(name)
                else:
                    self.answers[name] = await caller.ask(ask.body, ask.headers)


def often_asked(payers: Sequence[Payer], count: int) -> list[Ask]:
    """Write requests for few texts, so that many ask for the same one at the same time."""
    draw = random.Random(2)
    asks = []
    for number in range(count):
        size = draw.choice((1, 1, 1, 3, 70 if number % 50 == 0 else 2))
        given = [f"text {draw.randrange(150)} of many" for _ in range(size)]
        if number % FLAKY_EVERY == 0:
            given.append(f"flaky {number}")
        headers = {"x-request-id": f"turmoil-{number}"}
        payer = payers[number % len(payers)]
        model = draw.choice(("small", "own"))
        asks.append(Ask(payer, model, asked(model, given), bearer(payer.key) | headers))
    return asks


def endings_of(rows: Iterable[Row]) -> dict[str, Row]:
    """Find the one record of each request that says how it ended."""
    endings: dict[str, Row] = {}
    for row in rows:
        if row["reason"] != "fenced":
            assert row["request_id"] not in endings, "billed twice"
            endings[row["request_id"]] = row
    return endings


async def test_nothing_is_billed_twice_whatever_goes_wrong(
    pool: Pool, office: Office, books: Books, fake: FakeProvider
) -> None:
    before = books.sums("global:all")
    payers, count = payers_of(office, "turmoil"), 2_500
    # Now and then one, not one after the other: a key that only fails is left alone for a while.
    flaky = (f"flaky {number}" for number in range(0, count, FLAKY_EVERY))
    failing = (Behaviour(calls=1, containing=text, status=500) for text in flaky)
    fake.behave(Behaviour(latency_s=0.01), *failing)
    turmoil = Turmoil(pool, often_asked(payers, count))

    await turmoil.run()

    books.wait_until_nothing_is_held(patience_s=30)
    endings = endings_of(row for row in office.log() if row["request_id"].startswith("turmoil-"))
    never_queued = {name for name, answer in turmoil.answers.items() if answer.status == 503}
    assert set(turmoil.answers) - set(endings) <= never_queued
    for name in set(turmoil.answers) & set(endings):
        answer = turmoil.answers[name]
        told = answer.body["usage"]["total_tokens"] if answer.status == 200 else 0
        cost = Decimal(answer.headers.get("x-embedpool-cost-usd", 0))
        assert (endings[name]["used"], endings[name]["spend"]) == (told, float(cost))
    assert set(endings) <= set(turmoil.answers) | turmoil.gone
    told = sum(endings[name]["used"] for name in set(turmoil.answers) & set(endings))
    unheard = sum(endings[name]["used"] for name in turmoil.gone & set(endings))

    of_keys = [books.sums(f"key:{payer.token_id}") for payer in payers]
    everybody = books.sums("global:all")
    for column in (*COLUMNS, "cost", "requests"):
        assert everybody[column] - before[column] == sum(one[column] for one in of_keys)
    used, paid, saved, waste = (sum(one[column] for one in of_keys) for column in COLUMNS)
    assert used == told + unheard
    assert used + waste == paid + saved
    assert saved > 0
    # A worker that dies takes the knowledge of what it had just paid with it.
    assert paid <= sum(call.tokens for call in fake.calls if call.status == 200)
    assert {200} <= {answer.status for answer in turmoil.answers.values()}
