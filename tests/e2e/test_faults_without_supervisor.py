"""An api and two workers on a Redis of their own, with nobody to look after any of them."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Final

import pytest

from e2e.asking import UPSTREAM, Answer, Caller, asked, callers, right, vectors_in
from e2e.load import holder_mid_batch, load, served, until
from e2e.models import entry
from e2e.pools import Fleet, short_directory
from e2e.store import Store, store_at
from support.fake_provider import FakeProvider
from support.faults import Behaviour
from support.processes import Program
from support.valkey import RedisServer

DIMS: Final = 48
MODEL: Final = "m"
CALLERS: Final = 32
WITHIN_S: Final = 7.0
AWAY_S: Final = 3.0
AT_ONCE_S: Final = 1.0
SLOW: Final = Behaviour(containing="slow", latency_s=1.5)


@dataclass(slots=True)
class Site:
    """Everything that runs."""

    redis: RedisServer
    fleet: Fleet
    api: Program
    workers: dict[str, Program] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=count)

    @property
    def url(self) -> str:
        """Where the api is."""
        return self.fleet.url

    def hire(self) -> Program:
        """Start another worker."""
        name = f"worker-{next(self.numbers)}"
        self.workers[name] = self.fleet.worker(name)
        return self.workers[name]

    def named(self, name: str) -> Program:
        """The worker of this name."""
        return self.workers[name]

    def living(self) -> list[Program]:
        """The workers that still run."""
        return [worker for worker in self.workers.values() if worker.is_running]


@pytest.fixture(scope="module")
def lasting_fake() -> Iterator[FakeProvider]:
    with FakeProvider.in_thread(dims=DIMS, latency_s=0.1) as provider:
        yield provider


@pytest.fixture
def fake(lasting_fake: FakeProvider) -> Iterator[FakeProvider]:
    yield lasting_fake
    lasting_fake.behave()


@pytest.fixture(scope="module")
def lasting_site(lasting_fake: FakeProvider) -> Iterator[Site]:
    served_by = entry(
        MODEL, f"hosted_vllm/{UPSTREAM}", lasting_fake.api_base, output_dimensions=DIMS
    )
    with (
        RedisServer(appendonly=True) as server,
        short_directory() as directory,
        Fleet(server.url, directory, config={"model_list": [served_by]}) as fleet,
    ):
        yield Site(server, fleet, fleet.api())


@pytest.fixture
def site(lasting_site: Site) -> Site:
    """An api and two living workers."""
    while len(lasting_site.living()) < 2:
        lasting_site.hire()
    lasting_site.fleet.wait_until_served(lasting_site.api)
    return lasting_site


@pytest.fixture
def store(site: Site) -> Iterator[Store]:
    """What the site has in its Redis; quiet after the test."""
    with store_at(site.redis.url) as found:
        yield found
        found.wait_until_quiet()


async def test_a_worker_killed_mid_batch_costs_no_answer(
    site: Site, fake: FakeProvider, store: Store
) -> None:
    fake.forget()
    async with load(site.url, MODEL, callers_count=CALLERS, dims=DIMS) as history:
        await served(history, CALLERS)
        site.named(await holder_mid_batch(history, fake, store)).kill()
        begun = history.begun
        await until(lambda: history.has_ended(begun), "every answer", patience_s=WITHIN_S + 5)
        await served(history, CALLERS)

    history.check()
    assert history.refusals == {}
    assert history.slowest_s < WITHIN_S
    assert fake.totals.items > history.begun


@pytest.mark.usefixtures("store")
async def test_workers_can_be_exchanged_one_by_one_under_load(site: Site) -> None:
    old = site.living()
    async with load(site.url, MODEL, callers_count=CALLERS, dims=DIMS) as history:
        await served(history, CALLERS)
        for worker in old:
            site.hire()
            worker.signal(signal.SIGTERM)
            await until(lambda gone=worker: not gone.is_running, "its end", patience_s=30)  # type: ignore[misc]
        await served(history, CALLERS)

    assert [worker.wait() for worker in old] == [0, 0]
    history.check()
    assert history.refusals == {}


async def test_redis_killed_and_back_after_three_seconds(
    site: Site, fake: FakeProvider, store: Store
) -> None:
    fake.behave(SLOW)
    async with callers(20, site.url) as accepted:
        for n, caller in enumerate(accepted):
            caller.send(asked(MODEL, f"slow {n}"))
        await until(lambda: store.waiting(MODEL) == len(accepted), "all of them accepted")
        async with load(site.url, MODEL, callers_count=8, dims=DIMS) as history:
            site.redis.kill()
            killed_at = time.monotonic()
            await until(
                lambda: time.monotonic() > killed_at + AWAY_S, "three seconds without Redis"
            )
            site.redis.start()
            answered = len(history.ended) - len(history.refused)
            await until(
                lambda: len(history.ended) - len(history.refused) >= answered + 50, "new answers"
            )
        await check_accepted(accepted)

    history.check()
    assert history.refused
    for refused in history.refused:
        assert (refused.status, refused.error["code"]) == (503, "queue_unavailable")
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.took_s < AT_ONCE_S


async def check_accepted(accepted: list[Caller]) -> None:
    """Each of them has its own answer."""
    for n, caller in enumerate(accepted):
        status, _, body = await caller.receive()
        assert status == 200, body
        assert vectors_in(body) == right([f"slow {n}"], dims=DIMS)


@pytest.mark.usefixtures("store")
async def test_without_any_worker_requests_are_refused_and_accepted_ones_wait(site: Site) -> None:
    for worker in site.living():
        worker.kill()
    async with callers(2, site.url) as (patient, probing):
        patient.send(asked(MODEL, "patient"))
        refused = await first_answer_but(504, probing)
        site.hire()
        status, _, body = await patient.receive()
        recovered = await first_answer_but(503, probing)

    assert (refused.status, refused.error["code"]) == (503, "queue_unavailable")
    assert refused.error["type"] == "service_unavailable"
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.took_s < AT_ONCE_S
    assert (status, vectors_in(body)) == (200, right(["patient"], dims=DIMS))
    assert recovered.status == 200


async def first_answer_but(status: int, caller: Caller) -> Answer:
    """Ask with little patience until the answer is another one."""
    give_up_at = time.monotonic() + 8
    while True:
        answer = await caller.ask(asked(MODEL, "anybody?"), {"x-stainless-read-timeout": "0.5"})
        if answer.status != status:
            return answer
        assert time.monotonic() < give_up_at, f"nothing but {status}"
