"""The vector cache over a real server: hits cost nothing, nothing is mixed up, bounds hold."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from embedpool_api.posted import Answer
from embedpool_shared.jobs import CacheUse, JobReply, LaneClass
from embedpool_shared.sealing import Secrets
from embedpool_worker.cached_vectors import Spaces
from embedpool_worker.recall import Recall
from embedpool_worker.storing import ENTRY_BYTES, CacheBounds, Storing
from integration.one_process import (
    DIMS,
    MERGE,
    MODEL,
    ApiSide,
    Embedder,
    Site,
    job_of,
    right,
    until,
    vectors_in,
)

if TYPE_CHECKING:
    from support.valkey import RedisServer
    from support.vectors import Input

SECRETS = Secrets("a secret for tests")


class Cache:
    """One worker's two ends of the cache."""

    def __init__(
        self, site: Site, *, ttl_s: float = 60.0, max_bytes: int = 10_000_000, via: str = ""
    ) -> None:
        spaces, digest = Spaces(), SECRETS.cache_digest
        self.recall = Recall(site.line("cache", via=via or None), site.names, digest, spaces)
        self.storing = Storing(
            site.line("cache-write", via=via or None),
            site.names,
            digest,
            spaces,
            CacheBounds(ttl_s, max_bytes),
        )
        site.spawn(self.recall.run())
        site.spawn(self.storing.run())

    async def has_stored(self, count: int) -> None:
        """Return when so many vectors have been stored."""
        await until(lambda: self.storing.stored == count, f"{count} vectors are stored")

    async def is_connected(self) -> None:
        """Return when the cache has answered for the first time."""
        await until(lambda: self.recall.is_there, "the cache is there")


async def pool(site: Site, cache: Cache, provider: Embedder, worker_id: str = "w1") -> None:
    """Add a worker with a cache."""
    site.worker(provider, worker_id, recall=cache.recall, storing=cache.storing)
    await cache.is_connected()


async def replies_to(
    api: ApiSide, *texts: Input, cache: CacheUse = CacheUse.BOTH
) -> list[JobReply]:
    """Ask for these in one job that allows this use of the cache."""
    job = job_of(texts)
    job.cache = cache
    loop = asyncio.get_running_loop()
    answer = Answer(1, loop, give_up_at=loop.time() + 30.0)
    api.lanes.post(answer, MODEL, LaneClass.INTERACTIVE, MERGE, [job])
    async with asyncio.timeout(30.0):
        return list(await answer.done)


async def test_a_hit_asks_no_provider_costs_nothing_and_answers_like_a_miss(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        cache, provider, api = Cache(site), Embedder(), site.api()
        await pool(site, cache, provider)
        (miss,) = await replies_to(api, "a", "b")
        await cache.has_stored(2)

        (hit,) = await replies_to(api, "b", "a")

        assert vectors_in([hit]) == right(["b", "a"])
        assert provider.inputs == ["a", "b"]
        assert (miss.cached, hit.cached) == (0, 2)
        assert hit.tokens == miss.tokens
        assert miss.trace is not None
        assert hit.trace is not None
        assert hit.trace.model == miss.trace.model
        assert (hit.trace.provider, hit.trace.tries, hit.trace.provider_ms) == ("", 0, 0.0)
        await until(site.is_quiet, "the hit is committed")
        paid, free = await site.ledger()
        assert (free.used, free.paid, free.saved, free.waste) == (paid.used, 0, paid.used, 0)
        assert free.cached == free.used
        assert free.cost_pico_usd == 0


async def test_of_a_partial_hit_only_the_rest_is_sent(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        cache, provider, api = Cache(site), Embedder(), site.api()
        await pool(site, cache, provider)
        await replies_to(api, "b", "d")
        await cache.has_stored(2)

        (reply,) = await replies_to(api, "a", "b", "c", "d", "a")

        assert vectors_in([reply]) == right(["a", "b", "c", "d", "a"])
        assert provider.calls[1:] == [["a", "c"]]
        assert reply.cached == 2
        assert reply.trace is not None
        assert reply.trace.provider == "fake"


async def test_another_worker_finds_what_the_first_one_stored(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        first, second, provider, api = Cache(site), Cache(site), Embedder(), site.api()
        worker = site.worker(provider, "w1", recall=first.recall, storing=first.storing)
        await replies_to(api, "x")
        await first.has_stored(1)
        await worker.stop()
        await pool(site, second, provider, "w2")

        (reply,) = await replies_to(api, "x")

        assert reply.cached == 1
        assert provider.inputs == ["x"]


async def test_no_cache_reads_nothing_and_no_store_leaves_nothing(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        cache, provider, api = Cache(site), Embedder(), site.api()
        await pool(site, cache, provider)
        await replies_to(api, "x", cache=CacheUse.NEITHER)
        await replies_to(api, "y", cache=CacheUse.WRITE)
        await cache.has_stored(1)
        await replies_to(api, "y", cache=CacheUse.WRITE)
        await cache.has_stored(2)

        (x,), (y,) = await replies_to(api, "x"), await replies_to(api, "y")

        assert (x.cached, y.cached) == (0, 1)
        assert provider.inputs == ["x", "y", "y", "x"]


async def test_a_vector_is_forgotten_after_its_time(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        cache, provider, api = Cache(site, ttl_s=0.2), Embedder(), site.api()
        await pool(site, cache, provider)
        await replies_to(api, "x")
        await cache.has_stored(1)

        async def is_gone() -> bool:
            return not await site.call("KEYS", site.names.vector("*").replace("{", "[{]"))

        await until(is_gone, "the vector has expired")
        await until(lambda: _has_no_counts(site), "so has its count")
        (reply,) = await replies_to(api, "x")
        assert reply.cached == 0


async def _has_no_counts(site: Site) -> bool:
    return not await site.call("EXISTS", site.names.vectors)


async def test_no_more_is_stored_than_there_is_room_for(valkey: RedisServer) -> None:
    entry_bytes = 4 * DIMS + ENTRY_BYTES
    async with Site(valkey.url) as site:
        cache, provider, api = Cache(site, max_bytes=3 * entry_bytes), Embedder(), site.api()
        await pool(site, cache, provider)
        for count, text in enumerate("abc", 1):
            await replies_to(api, text)
            await cache.has_stored(count)

        await replies_to(api, "d")
        await until(lambda: cache.storing.dropped == 1, "there is no room")

        assert len(await site.call("KEYS", site.names.vector("*").replace("{", "[{]"))) == 3
        (reply,) = await replies_to(api, "a")
        assert reply.cached == 1


async def test_nothing_in_the_cache_says_what_was_embedded(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        cache, api = Cache(site), site.api()
        await pool(site, cache, Embedder())
        await replies_to(api, "a very private text")
        await cache.has_stored(1)

        (name,) = await site.call("KEYS", site.names.vector("*").replace("{", "[{]"))

        value = await site.call("GET", name)
        assert b"private" not in name + value
        assert 0 < await site.call("PTTL", name) <= 60_000


async def test_a_cache_that_is_away_is_never_an_error(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        cache, provider = Cache(site, via="unix:///nowhere/at/all.sock"), Embedder()
        site.worker(provider, recall=cache.recall, storing=cache.storing)
        api = site.api()

        for _ in range(2):
            (reply,) = await replies_to(api, "x")
            assert reply.cached == 0

        assert provider.inputs == ["x", "x"]
