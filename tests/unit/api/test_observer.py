"""What the api knows of the pool, and for how long it believes it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from embedpool_api.observer import Observer
from embedpool_shared.catalog import Catalog, ModelCard, encode_catalog
from embedpool_shared.names import Names
from support.fake_line import AWAY, FakeLine, Told
from support.virtual_time import in_virtual_time

CATALOG = Catalog(models={"m": ModelCard(name="m", providers=("openai",))})


class Desk:
    """An observer, and what its Redis would say."""

    def __init__(self) -> None:
        self.was_known = 1
        self.workers = [b"worker:box:1"]
        self.version = b"v1"
        self.blob: Any = encode_catalog(CATALOG)
        self.forgotten = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.line = FakeLine(self._answer)
        any_line: Any = self.line
        self.observer = Observer(
            Names(),
            lambda _: any_line,
            api_id="api-1",
            on_forgotten=self._note_forgotten,
            spawn=lambda work: self.tasks.add(asyncio.create_task(work)),
        )

    def _note_forgotten(self) -> None:
        self.forgotten += 1

    def _answer(self, told: Told) -> Any:
        if told.what == "presence":
            return [self.was_known, 1_000_000, self.version, b"api:api-1", *self.workers]
        return self.blob


def run(test: Callable[[Desk], Awaitable[None]]) -> Desk:
    async def main() -> Desk:
        desk = Desk()
        task = asyncio.create_task(desk.observer.run())
        await test(desk)
        assert not task.done()
        task.cancel()
        return desk

    return in_virtual_time(main())


# Workers


def test_workers_are_told_from_other_processes() -> None:
    async def test(desk: Desk) -> None:
        await asyncio.sleep(0.1)
        assert desk.observer.workers == {"worker:box:1"}

    desk = run(test)

    assert desk.line.told[0].arguments == ["api:api-1", 4_500]


def test_a_pool_whose_last_workers_presence_ended_refuses_at_the_next_look() -> None:
    async def test(desk: Desk) -> None:
        await asyncio.sleep(6.1)
        desk.workers = []
        await asyncio.sleep(1.3)
        assert desk.observer.has_workers(), "nobody has looked yet"

        await asyncio.sleep(0.2)
        assert not desk.observer.has_workers()

        desk.workers = [b"worker:box:2"]
        await asyncio.sleep(1.6)
        assert desk.observer.has_workers()

    run(test)


def test_a_fresh_api_waits_for_its_first_worker_before_it_refuses() -> None:
    async def test(desk: Desk) -> None:
        desk.workers = []
        await asyncio.sleep(4.9)
        assert desk.observer.has_workers()
        await asyncio.sleep(0.2)
        assert not desk.observer.has_workers()

    run(test)


def test_before_it_began_to_watch_an_observer_suspects_nobody() -> None:
    async def main() -> None:
        assert Desk().observer.has_workers()

    in_virtual_time(main())


def test_an_outage_of_redis_is_not_held_against_the_workers() -> None:
    async def test(desk: Desk) -> None:
        await asyncio.sleep(0.1)
        desk.line.is_away, desk.workers = True, []
        await asyncio.sleep(60.0)
        assert desk.observer.has_workers()

        desk.line.is_away = False
        await asyncio.sleep(1.1)
        assert desk.observer.has_workers(), "they need a moment to come back"

        await asyncio.sleep(6.0)
        assert not desk.observer.has_workers()

    run(test)


# Being forgotten


def test_a_redis_that_forgot_us_is_noticed_once() -> None:
    async def test(desk: Desk) -> None:
        await asyncio.sleep(2.0)
        desk.was_known = 0
        await asyncio.sleep(1.5)
        desk.was_known = 1
        await asyncio.sleep(10.0)

    assert run(test).forgotten == 1


def test_a_redis_back_empty_after_a_long_outage_is_noticed() -> None:
    async def test(desk: Desk) -> None:
        await asyncio.sleep(1.0)
        desk.line.is_away = True
        await asyncio.sleep(60.0)
        desk.line.is_away, desk.was_known = False, 0
        await asyncio.sleep(1.1)

    assert run(test).forgotten == 1


def test_nobody_is_forgotten_at_the_first_beat() -> None:
    async def test(desk: Desk) -> None:
        desk.was_known = 0
        await asyncio.sleep(1.0)

    assert run(test).forgotten == 0


# The catalogue


def test_the_catalogue_is_fetched_once_per_version() -> None:
    async def test(desk: Desk) -> None:
        await asyncio.sleep(5.0)
        assert desk.observer.catalog == CATALOG
        desk.version, desk.blob = b"v2", encode_catalog(Catalog())
        await asyncio.sleep(5.0)
        assert desk.observer.catalog == Catalog()

    desk = run(test)

    assert [told.arguments for told in desk.line.told_of("HGET")] == [["ep:catalog", "models"]] * 2


def test_no_second_fetch_begins_while_one_is_under_way() -> None:
    async def test(desk: Desk) -> None:
        fetched = asyncio.Event()
        usual = desk.line.answer

        async def slowly() -> bytes:
            await fetched.wait()
            return encode_catalog(CATALOG)

        desk.line.answer = lambda told: slowly() if told.what == "HGET" else usual(told)
        await asyncio.sleep(10.0)
        assert len(desk.line.told_of("HGET")) == 1
        fetched.set()
        await asyncio.sleep(0.1)
        assert desk.observer.catalog == CATALOG

    run(test)


@pytest.mark.parametrize("bad", [None, b"", b"{", AWAY], ids=["none", "empty", "junk", "away"])
def test_the_last_good_catalogue_stays_until_there_is_a_better_one(bad: Any) -> None:
    async def test(desk: Desk) -> None:
        await asyncio.sleep(1.0)
        desk.version, desk.blob = b"v2", bad
        await asyncio.sleep(5.0)
        assert desk.observer.catalog == CATALOG

        desk.blob = encode_catalog(Catalog())
        await asyncio.sleep(2.0)
        assert desk.observer.catalog == Catalog()

    run(test)


# For people


def test_a_look_asks_redis_now() -> None:
    async def test(desk: Desk) -> None:
        await asyncio.sleep(0.1)
        seen = await desk.observer.look()
        assert (seen["redis"], seen["workers"], seen["models"]) == ("ok", 1, 1)

        desk.line.is_away = True
        assert (await desk.observer.look())["redis"] == "unreachable"

    run(test)


def test_a_look_before_any_catalogue_counts_no_models() -> None:
    async def test(desk: Desk) -> None:
        desk.blob = None
        assert (await desk.observer.look())["models"] == 0

    run(test)


@pytest.mark.parametrize("is_away", [False, True])
def test_an_api_that_leaves_says_so_if_it_can(is_away: bool) -> None:
    async def test(desk: Desk) -> None:
        await asyncio.sleep(0.1)
        desk.line.is_away = is_away
        await desk.observer.leave()

    desk = run(test)

    goodbyes = [told for told in desk.line.told_of("presence") if told.arguments[1] == 0]
    assert len(goodbyes) == (0 if is_away else 1)
