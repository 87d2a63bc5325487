"""Caps that one worker was taught are known to all of them, for as long as they are believed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from embedpool_shared.errors import CapExceeded
from embedpool_worker.learned_caps import CapName, LearnedCaps
from embedpool_worker.providers.cap_words import CapKind
from embedpool_worker.shared_caps import SharedCaps
from integration.one_process import Embedder, Site, right, until
from support.lane_bench import deployment

if TYPE_CHECKING:
    from embedpool_worker.providers.port import ProviderAnswer, ProviderCall
    from support.valkey import RedisServer

ITEMS = CapName("d", CapKind.ITEMS, is_named=True)
GUESS = CapName("d", CapKind.ITEMS, is_named=False)


class Narrow(Embedder):
    """Takes ten inputs at most, and says so."""

    @override
    async def embed(self, call: ProviderCall) -> ProviderAnswer:
        if len(call.inputs) > 10:
            self.calls.append(list(call.inputs))
            raise CapExceeded("batch size is invalid, it should not be larger than 10")
        return await super().embed(call)


class Knower:
    """What one worker knows, and how often its catalogue had to say more."""

    def __init__(self, site: Site, *, via: str | None = None) -> None:
        self.learned = LearnedCaps()
        self.changes = 0
        self.shared = SharedCaps(
            site.line("caps", via=via), site.names, self.learned, on_change=self._count
        )

    def _count(self) -> None:
        self.changes += 1

    def max_items(self) -> int:
        now = asyncio.get_running_loop().time()
        return self.learned.caps_of(deployment(max_items=64), now=now).max_items

    def learn(self, name: CapName, number: int, *, age_s: float = 0.0) -> None:
        self.learned.learn(name, number, now=asyncio.get_running_loop().time() - age_s)


async def test_what_one_worker_was_taught_the_next_one_respects_from_its_first_call(
    valkey: RedisServer,
) -> None:
    texts = [f"text {n}" for n in range(25)]
    async with Site(valkey.url) as site:
        first, second, provider = Knower(site), Knower(site), Narrow()
        site.spawn(first.shared.run())
        worker = site.worker(provider, "w1", learned=first.learned)
        answers = await site.api().ask(*texts)
        await until(lambda: not first.learned.unshared, "the others are told")
        await worker.stop()

        site.spawn(second.shared.run())
        await until(lambda: second.max_items() == 10, "the second worker knows")
        provider.calls.clear()
        site.worker(provider, "w2", learned=second.learned)
        again = await site.api("a2").ask(*texts)

        assert answers == again == right(texts)
        assert sorted(map(len, provider.calls)) == [5, 10, 10]
        assert (first.changes, second.changes) == (1, 1)
        assert first.learned.version == second.learned.version


async def test_a_guess_doubles_in_redis_as_it_does_here(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        first, second = Knower(site), Knower(site)
        first.learn(GUESS, 3, age_s=2 * 3_600 + 60)

        await first.shared.share()
        await second.shared.share()

        assert first.max_items() == second.max_items() == 12
        assert second.learned.numbers_of(deployment()) == {CapKind.ITEMS: 12}


async def test_the_lower_guess_and_the_newer_number_win(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        one, other = Knower(site), Knower(site)
        one.learn(GUESS, 8)
        other.learn(GUESS, 16)
        one.learn(ITEMS, 20, age_s=100.0)
        other.learn(ITEMS, 30)
        await one.shared.share()
        await other.shared.share()
        await one.shared.share()

        assert await _stored(site) == {str(GUESS): 8, str(ITEMS): 30}
        assert one.learned.version == other.learned.version


async def test_what_is_too_old_is_forgotten_and_the_hash_ends_by_itself(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        knower = Knower(site)
        knower.learn(ITEMS, 10, age_s=24 * 3_600 - 0.05)
        await knower.shared.share()
        assert knower.max_items() == 10
        assert 0 < await site.call("PTTL", site.names.caps) <= 24 * 3_600_000

        async def is_forgotten() -> bool:
            await knower.shared.share()
            return not await _stored(site)

        await until(is_forgotten, "a day has passed")
        assert knower.max_items() == 64


async def test_what_redis_forgot_is_forgotten_everywhere(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        knower = Knower(site)
        knower.learn(ITEMS, 10)
        await knower.shared.share()

        await site.call("DEL", site.names.caps)
        await knower.shared.share()

        assert knower.max_items() == 64
        assert knower.changes == 2, "the catalogue is to say it, and then no more"


async def test_a_cap_learned_while_redis_is_away_holds_here_and_is_shared_later(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        knower = Knower(site)
        site.spawn(knower.shared.run())
        await until(lambda: not knower.learned.unshared, "nothing to tell")
        valkey.pause()
        knower.learn(ITEMS, 10)
        await asyncio.sleep(0.05)
        assert knower.max_items() == 10
        assert knower.learned.unshared
        valkey.resume()

        await until(lambda: not knower.learned.unshared, "the others are told", patience_s=15.0)
        assert await _stored(site) == {str(ITEMS): 10}


async def test_a_name_of_a_later_version_disturbs_nobody(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        knower = Knower(site)
        await site.call("HSET", site.names.caps, "dreamt:items:d", "5:99999999999999")
        knower.learn(ITEMS, 10)

        await knower.shared.share()

        assert knower.max_items() == 10


async def _stored(site: Site) -> dict[str, int]:
    flat: list[Any] = await site.call("HGETALL", site.names.caps)
    return {
        name.decode(): int(value.split(b":")[0])
        for name, value in zip(flat[::2], flat[1::2], strict=True)
    }
