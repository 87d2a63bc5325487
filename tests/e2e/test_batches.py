"""Batches through OpenAI's package and `embedpool serve`: whole, exact and fair, whoever dies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal
from operator import lt, sub
from typing import Final

import httpx
import openai
import pytest
from openai.types import Batch

from e2e.batches import (
    DIMS,
    ENDED,
    MODEL,
    PRICE_USD,
    RETRIES,
    are_right,
    begun,
    client_of,
    counts,
    ended,
    ids,
    kill,
    kill_leader,
    leader,
    made,
    numbered,
    part_files,
    priced,
    progressed,
    rows,
    tokens_in,
    uploaded,
)
from e2e.keys import Office, books_of, guarded
from e2e.limited import exactly
from e2e.pools import Pool, serving
from e2e.store import store_at
from embedpool_shared.names import Names
from embedpool_worker.bulk.booking import FORGOTTEN_AFTER_S
from support.fake_provider import FakeProvider
from support.faults import Behaviour
from support.processes import wait_until

WINDOW: Final = 16_384
MOST_APART: Final = 1.5
GRAIN: Final = 1_000
"""Counts move by some hundred lines at a time; before so many they say little of a pace."""


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeProvider]:
    with FakeProvider.in_thread(dims=DIMS, count_tokens=exactly) as provider:
        yield provider


@pytest.fixture(scope="module")
def pool(fake: FakeProvider) -> Iterator[Pool]:
    flags = ("--workers", "2", "--api-processes", "2")
    with serving(*flags, config=guarded(fake, priced(fake))) as running:
        yield running


@pytest.fixture
def provider(fake: FakeProvider) -> Iterator[FakeProvider]:
    fake.forget()
    yield fake
    fake.behave()


@pytest.fixture
def office(pool: Pool, plain_client: httpx.Client) -> Office:
    return Office(pool.url, plain_client)


def leaders_killed(
    pool: Pool, client: openai.OpenAI, batch_id: str, *, lines: int, rounds: int
) -> int:
    """Kill api processes, the leader and the other worker while the batch runs; count leaders."""
    killed = 0
    for number in range(rounds):
        progressed(client, batch_id, lines * (number + 1) // (rounds + 2))
        if number % 3 == 1:
            leads = leader(pool)
            idle = [one for one in pool.workers() if leads is None or one.pid != leads.pid]
            kill(pool, idle[0])
            kill(pool, pool.apis()[0])
        else:
            kill(pool, pool.apis()[-1])
            kill_leader(pool)
            killed += 1
    return killed


@pytest.mark.parametrize(
    ("lines", "latency_s", "rounds"),
    [(3_000, 0.4, 1), pytest.param(50_000, 0.25, 5, marks=pytest.mark.long)],
)
@pytest.mark.timeout(400)
def test_a_batch_is_whole_and_its_bill_exact_whoever_is_killed(
    pool: Pool, provider: FakeProvider, office: Office, lines: int, latency_s: float, rounds: int
) -> None:
    provider.behave(Behaviour(latency_s=latency_s))
    team = office.post("/team/new", team_alias=f"team of {lines}")["team_id"]
    key = office.key(team_id=team)
    with client_of(pool, key, retries=RETRIES) as client, books_of(pool) as books:
        batch_id = begun(client, numbered(lines))
        killed = leaders_killed(pool, client, batch_id, lines=lines, rounds=rounds)
        batch = ended(client, batch_id, patience_s=200)
        answered = rows(client, batch.output_file_id)
        books.wait_until_nothing_is_held()

        assert batch.status == "completed"
        assert counts(batch) == (lines, lines, 0)
        assert batch.error_file_id is None
        assert ids(answered) == [f"id-{number}" for number in range(1, lines + 1)]
        assert are_right(answered)
        check_bill(pool, office, batch, key=key, team=team, tokens=tokens_in(answered))
        check_nothing_is_left(pool, batch_id)
        sent = Counter(item for call in provider.calls for item in call.items)
        assert len(sent) == lines
        assert max(sent.values()) <= 1 + killed
        assert sum(sent.values()) <= lines + killed * WINDOW
        assert paid_in(pool, batch_id) <= provider.totals.tokens


def check_bill(
    pool: Pool, office: Office, batch: Batch, *, key: str, team: str, tokens: int
) -> None:
    """What the lines used is what the batch says, the ledger has, and key and team have spent."""
    cost_usd = tokens * Decimal(str(PRICE_USD))
    assert batch.usage
    assert batch.usage.total_tokens == batch.usage.input_tokens == tokens
    assert Decimal(batch.to_dict()["embedpool"]["cost_usd"]) == cost_usd  # type: ignore[index]
    for spent in (office.of_key(key), office.spending("team")[team]):
        assert Decimal(str(spent["spend"])) == pytest.approx(cost_usd, rel=Decimal("1e-9"))
    with store_at(pool.store_url) as store:
        records = store.ledger(MODEL)
    assert all(one.used + one.waste == one.paid + one.saved for one in records)
    booked = [one for one in records if one.pack_id == batch.id and not one.reason]
    assert sum(one.requests for one in booked) == counts(batch)[1]
    assert sum(one.used for one in booked) == tokens


def paid_in(pool: Pool, batch_id: str) -> int:
    """What the ledger says was paid for a batch, in vain or not."""
    with store_at(pool.store_url) as store:
        return sum(one.paid for one in store.ledger(MODEL) if one.pack_id == batch_id)


def check_nothing_is_left(pool: Pool, batch_id: str) -> None:
    """A batch that has ended soon holds nothing in Redis but its record, and no part files."""
    names = Names()
    with store_at(pool.store_url) as store:
        assert store.client.zscore(names.active_batches, batch_id) is None
        assert 0 < store.client.ttl(names.lane(MODEL).booked(batch_id)) <= FORGOTTEN_AFTER_S
        assert store.client.keys("*:held") == []
    assert part_files(pool.data_directory / "files") == []


@pytest.mark.timeout(180)
@pytest.mark.long
def test_batches_of_different_size_progress_evenly_and_the_smallest_ends_first(
    pool: Pool, provider: FakeProvider, office: Office
) -> None:
    provider.behave(Behaviour(latency_s=0.5))
    sizes = (12_000, 3_000, 6_000)
    with client_of(pool, office.key(), retries=RETRIES) as client:
        files = [uploaded(client, numbered(size)) for size in sizes]
        batches = [made(client, file_id) for file_id in files]
        seen = watched(client, batches)
        finished = [ended(client, batch_id) for batch_id in batches]

    assert [counts(batch) for batch in finished] == [(size, size, 0) for size in sizes]
    assert [sizes[at] for at in order_of_end(seen)] == sorted(sizes)
    assert max(map(unevenness, paces(seen, sizes))) <= MOST_APART


def paces(seen: Sequence[Sequence[int]], sizes: Sequence[int]) -> list[list[int]]:
    """Say how far each batch has come since all of them run, at every look that tells enough."""
    while_all_run = [look for look in seen if min(look) and all(map(lt, look, sizes))]
    since = [list(map(sub, look, while_all_run[0])) for look in while_all_run]
    told = [pace for pace in since if min(pace) >= GRAIN]
    assert told
    return told


def unevenness(pace: Sequence[int]) -> float:
    """Say by how much the fastest is faster than the slowest."""
    return max(pace) / min(pace)


def watched(client: openai.OpenAI, batches: Sequence[str]) -> list[list[int]]:
    """Look again and again, until all have ended, how many lines of each batch are answered."""
    seen: list[list[int]] = []

    def is_over() -> bool:
        looks = [client.batches.retrieve(batch_id) for batch_id in batches]
        seen.append([counts(batch)[1] for batch in looks])
        return all(batch.status in ENDED for batch in looks)

    wait_until(is_over, patience_s=120, what="the end of all", glance_s=0.2)
    return seen


def order_of_end(seen: Sequence[Sequence[int]]) -> list[int]:
    """Say in which order the batches had all their lines answered."""
    last = seen[-1]
    done_at = [
        next(at for at, look in enumerate(seen) if look[n] == last[n]) for n in range(len(last))
    ]
    assert len(set(done_at)) == len(done_at)
    return sorted(range(len(last)), key=done_at.__getitem__)
