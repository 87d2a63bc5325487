"""Processes of a busy `embedpool serve` die, stop and restart: callers notice nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from e2e.asking import UPSTREAM
from e2e.load import History, holder_mid_batch, load, served, until
from e2e.models import entry
from e2e.pools import Pool, serving
from e2e.store import Store
from support.fake_provider import FakeProvider
from support.processes import answers_ok, wait_until

DIMS = 48
MODEL = "m"
CALLERS = 32
SEEN_WITHIN_S = 3.0
"""Long before a lease runs out: whoever sees a worker end hands its work over."""


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeProvider]:
    with FakeProvider.in_thread(dims=DIMS, latency_s=0.1) as provider:
        yield provider


@pytest.fixture(scope="module")
def running(fake: FakeProvider) -> Iterator[Pool]:
    served_by = entry(MODEL, f"hosted_vllm/{UPSTREAM}", fake.api_base, output_dimensions=DIMS)
    with serving("--num_workers", "2", config={"model_list": [served_by]}) as pool:
        yield pool


@pytest.fixture
def pool(running: Pool) -> Pool:
    """Two workers, both at work."""
    running.program.wait_until(
        lambda: len(running.workers()) == 2, patience_s=10, what="two workers"
    )
    running.program.wait_for_ok(f"{running.url}/readyz?deep=1")
    return running


def check_bills(history: History, store: Store, before: int) -> None:
    """One record for each answered request, and none twice."""
    records = store.ledger(MODEL)[before:]
    used = [record for record in records if not record.reason]
    assert len({(record.pack_id, record.number) for record in used}) == len(used)
    assert len(used) == len(history.ended) - len(history.refused)


async def test_a_worker_killed_mid_batch_costs_no_answer(
    pool: Pool, fake: FakeProvider, store: Store
) -> None:
    fake.forget()
    before = len(store.ledger(MODEL))
    async with load(pool.url, MODEL, callers_count=CALLERS, dims=DIMS) as history:
        await served(history, CALLERS)
        os.kill(await worker_mid_batch(pool, history, fake, store), signal.SIGKILL)
        await served(history, 3 * CALLERS)

    history.check()
    assert history.refusals == {}
    assert history.slowest_s < SEEN_WITHIN_S
    assert fake.totals.items > history.begun
    store.wait_until_quiet()
    check_bills(history, store, before)


@pytest.mark.long  # the only worker starts anew while nobody else may use the machine
async def test_a_worker_told_to_stop_costs_no_answer(pool: Pool, store: Store) -> None:
    before = len(store.ledger(MODEL))
    old = {worker.pid for worker in pool.workers()}
    async with load(pool.url, MODEL, callers_count=CALLERS, dims=DIMS) as history:
        await served(history, CALLERS)
        for pid in old:
            os.kill(pid, signal.SIGTERM)
            await until(lambda gone=pid: gone not in pids(pool), "the end of a worker")  # type: ignore[misc]
            await until(lambda: len(pids(pool)) == 2, "another in its place")
        await served(history, 3 * CALLERS)

    history.check()
    assert history.refusals == {}
    store.wait_until_quiet()
    check_bills(history, store, before)
    assert old.isdisjoint(pids(pool))


async def test_a_worker_that_wakes_up_late_changes_nothing(
    pool: Pool, fake: FakeProvider, store: Store
) -> None:
    fake.forget()
    before = len(store.ledger(MODEL))
    async with load(pool.url, MODEL, callers_count=CALLERS, dims=DIMS) as history:
        await served(history, CALLERS)
        sleeper = await worker_mid_batch(pool, history, fake, store)
        os.kill(sleeper, signal.SIGSTOP)
        overdue = history.begun
        # Everything that had begun is answered while it sleeps, by the other one.
        await until(lambda: history.has_ended(overdue), "answers without it")
        os.kill(sleeper, signal.SIGCONT)
        await served(history, 3 * CALLERS)

    history.check()
    assert history.refusals == {}
    assert fake.totals.items > history.begun
    store.wait_until_quiet()
    check_bills(history, store, before)
    assert sleeper in pids(pool)


async def test_the_embedded_valkey_may_die(pool: Pool, store: Store) -> None:
    async with load(pool.url, MODEL, callers_count=CALLERS, dims=DIMS) as history:
        await served(history, CALLERS)
        (valkey,) = pool.program.members("valkey-server")
        os.kill(valkey.pid, signal.SIGKILL)
        await until(lambda: another_valkey(pool, valkey.pid), "another Valkey")
        await served(history, 3 * CALLERS)

    history.check()
    for refused in history.refused:
        assert (refused.status, refused.error["code"]) == (503, "queue_unavailable")
        assert int(refused.headers["retry-after"]) >= 1
    store.wait_until_quiet()


async def test_the_api_may_die(pool: Pool, store: Store) -> None:
    (api,) = pool.apis()
    os.kill(api.pid, signal.SIGKILL)
    wait_until(
        lambda: pool.apis() != [] and answers_ok(f"{pool.url}/readyz?deep=1"),
        patience_s=15,
        what="another api",
    )

    async with load(pool.url, MODEL, callers_count=CALLERS, dims=DIMS) as history:
        await served(history, CALLERS)

    history.check()
    assert history.refusals == {}
    store.wait_until_quiet()


async def worker_mid_batch(pool: Pool, history: History, fake: FakeProvider, store: Store) -> int:
    """Find a process whose provider call is in flight."""
    (worker,) = pool.program.members(await holder_mid_batch(history, fake, store))
    return worker.pid


def pids(pool: Pool) -> set[int]:
    return {worker.pid for worker in pool.workers()}


def another_valkey(pool: Pool, old: int) -> bool:
    return any(member.pid != old for member in pool.program.members("valkey-server"))
