"""Several workers act as one towards a provider key: its limits, its rests, its slots."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from embedpool_shared.errors import (
    DeadlineExceeded,
    KeyRejected,
    NoKeys,
    Overloaded,
    ProviderThrottled,
    ProviderUnavailable,
)
from embedpool_shared.jobs import LaneClass
from embedpool_shared.provider_keys import KeyCondition, read_keys
from embedpool_worker.providers.port import ProviderAnswer
from integration.one_process import until
from support.key_crew import MINUTE_S, Crew, Member, crew, limited
from support.lane_bench import deployment

if TYPE_CHECKING:
    from embedpool_worker.deployments import Deployment
    from support.valkey import RedisServer

INTERACTIVE, BULK = LaneClass.INTERACTIVE, LaneClass.BULK


async def callers(member: Member, place: Deployment, times: list[float], until_at: float) -> None:
    """Call as often as permits come."""
    while (now := asyncio.get_running_loop().time()) < until_at:
        try:
            times.append(await member.call(place, within_s=max(0.01, until_at - now)))
        except (DeadlineExceeded, Overloaded):
            return


def most_in_a_minute(times: list[float]) -> int:
    ordered = sorted(times)
    return max(sum(at - MINUTE_S < other <= at for other in ordered) for at in ordered)


async def test_four_workers_keep_a_limit_though_one_is_killed(valkey: RedisServer) -> None:
    async with crew(valkey.url) as on:
        place, times = limited(rpm=40), list[float]()
        until_at = asyncio.get_running_loop().time() + 4.0
        workers = [on.hire() for _ in range(4)]
        calling = [
            asyncio.create_task(callers(worker, place, times, until_at))
            for worker in workers
            for _ in range(3)
        ]

        await asyncio.sleep(1.0)
        for task in calling[:3]:
            task.cancel()
        await workers[0].kill()
        await asyncio.gather(*calling, return_exceptions=True)

        assert most_in_a_minute(times) <= 40
        # A minute of 1.0 s is counted as one of 1.45 s here, a real one as one of 61.25 s.
        assert len(times) >= 0.85 * 4.0 * 40 / 1.45


async def test_a_lone_call_on_a_key_without_limits_asks_nobody(valkey: RedisServer) -> None:
    async with crew(valkey.url) as on:
        worker = on.hire()

        permit = asyncio.create_task(worker.permit(deployment("k")))
        await asyncio.sleep(0)  # one step: no time for a round trip

        assert permit.done()


async def test_a_throttled_key_rests_for_the_other_workers_too(valkey: RedisServer) -> None:
    async with crew(valkey.url) as on:
        place, one, other = deployment("k"), on.hire(), on.hire()
        await other.call(place)
        permit = await one.permit(place)

        one.care.failed(permit, ProviderThrottled("slow down", retry_after_s=1.5))
        said_at = asyncio.get_running_loop().time()
        (key,) = other.permits.keys_of([place])
        await until(lambda: key.cooling_until_at > 0, "the other worker hears of it")

        assert await other.call(place) >= said_at + 1.5


async def test_a_rest_beyond_the_deadline_refuses_at_every_worker(valkey: RedisServer) -> None:
    async with crew(valkey.url) as on:
        place, one, other = deployment("k"), on.hire(), on.hire()
        one.care.failed(await one.permit(place), ProviderThrottled("slow", retry_after_s=60.0))
        await until(lambda: is_cooling(on, place), "it is told")
        (key,) = other.permits.keys_of([place])
        other.shared.ask(key)
        await until(lambda: key.cooling_until_at > 0, "the other worker hears of it")

        with pytest.raises(NoKeys) as refused:
            await other.call(place, within_s=5.0)

        assert refused.value.retry_after_s == pytest.approx(60.0, abs=2.0)


async def is_cooling(on: Crew, place: Deployment) -> bool:
    line = on.line()
    (state,) = await read_keys(line, on.names, [place.keys[0].id])
    await line.close()
    return state.condition is KeyCondition.COOLING


async def test_a_rejected_key_is_retired_everywhere_until_somebody_finds_it_works(
    valkey: RedisServer,
) -> None:
    async with crew(valkey.url) as on:
        place, one, other = deployment("k"), on.hire(), on.hire()
        (theirs,) = other.permits.keys_of([place])
        await other.call(place)
        permit = await one.permit(place)
        await until(lambda: is_used_by(on, 2), "both have met the key")
        one.care.failed(permit, KeyRejected("revoked"))
        one.permits.give_back(permit)
        other.shared.ask(theirs)
        await until(lambda: theirs.is_retired, "the other worker hears of it")

        started = on.hire()  # as after a restart
        answer = ProviderAnswer([], 2, "m")
        (ours,) = started.permits.keys_of([place])
        started.shared.ask(ours)
        await until(lambda: ours.is_on_trial, "it may try")
        trial = await started.permit(place)
        started.care.answered(trial, answer, None, 0.1)

        async def is_back() -> bool:
            other.shared.ask(theirs)
            await asyncio.sleep(0.01)
            return not theirs.is_retired

        await until(is_back, "the other worker hears of that as well")


async def is_used_by(on: Crew, workers: int) -> bool:
    line = on.line()
    (state,) = await read_keys(line, on.names, ["k"])
    await line.close()
    return state.workers == workers


async def test_slots_are_shared_and_halved_as_one(valkey: RedisServer) -> None:
    async with crew(valkey.url) as on:
        place, workers = deployment("k"), [on.hire(slots=8) for _ in range(4)]
        keys = [worker.permits.keys_of([place])[0] for worker in workers]

        async def share_is(slots: int) -> bool:
            for worker, key in zip(workers, keys, strict=True):
                worker.shared.ask(key)
            await asyncio.sleep(0.01)
            return all(key.slots == slots for key in keys)

        await until(lambda: share_is(2), "each has its share")
        for worker in workers:  # their calls time out together
            worker.care.failed(await worker.permit(place), ProviderUnavailable("", code="timeout"))

        await until(lambda: share_is(1), "the slots are halved once")
        line = on.line()
        (state,) = await read_keys(line, on.names, ["k"])
        await line.close()
        assert (state.slots, state.workers) == (4, 4)


async def test_when_the_limit_is_used_up_the_refusal_names_the_true_wait(
    valkey: RedisServer,
) -> None:
    async with crew(valkey.url) as on:
        place, worker = limited(rpm=1), on.hire()
        await worker.call(place)
        await worker.call(limited("k", rpm=1), within_s=5.0)  # waited for

        with pytest.raises(Overloaded) as refused:
            await worker.call(place, within_s=0.3)

        assert refused.value.retry_after_s is not None
        assert 0.3 < refused.value.retry_after_s <= 1.5


async def test_a_call_is_as_large_as_the_limit_has_room_for(valkey: RedisServer) -> None:
    async with crew(valkey.url) as on:
        place, worker = limited(tpm=1_000), on.hire()

        permit = await worker.permit(place, tokens=5_000, least=20)

        assert permit.max_tokens == 100  # a tenth of a minute's


async def test_tokens_a_call_did_not_have_are_free_again_for_others(valkey: RedisServer) -> None:
    async with crew(valkey.url) as on:
        place, one, other = limited(tpm=1_000), on.hire(), on.hire()
        permit = await one.permit(place, tokens=950)
        permit.begin(950)
        one.care.answered(permit, ProviderAnswer([], 2, "m", total_tokens=100), None, 0.01)
        one.permits.give_back(permit)
        began_at = asyncio.get_running_loop().time()

        at = await other.call(place, tokens=800)

        assert at - began_at < 1.0


async def test_without_redis_keys_without_limits_go_on_and_others_wait(
    valkey: RedisServer,
) -> None:
    async with crew(valkey.url) as on:
        free, tied, worker = deployment("free"), limited("tied", rpm=600), on.hire()
        await worker.call(free)
        await worker.call(tied)
        await asyncio.sleep(0.3)  # what was leased has lapsed
        valkey.kill()

        await worker.call(free)
        with pytest.raises(DeadlineExceeded):
            await worker.call(tied, within_s=0.3)

        waiting = asyncio.create_task(worker.call(tied))
        valkey.start()
        await waiting


async def test_the_state_of_keys_can_be_read_by_anybody(valkey: RedisServer) -> None:
    async with crew(valkey.url) as on:
        worker, line = on.hire(), on.line()
        await worker.call(limited("a", rpm=60, tpm=1_000), tokens=90)
        permit = await worker.permit(deployment("b"))
        worker.care.failed(permit, KeyRejected("revoked"))
        await until(lambda: is_retired(on), "it is told")

        ready, retired, unknown = await read_keys(line, on.names, ["a", "b", "never"])
        await line.close()

        assert (ready.provider, ready.deployment, ready.condition) == ("openai", "d", "ready")
        assert (ready.rpm, ready.tpm) == (60, 1_000)
        assert ready.used_requests >= 1
        assert ready.remaining_requests is not None
        assert ready.remaining_requests < 60
        assert (retired.condition, retired.reason) == ("retired", "rejected")
        assert 500 < retired.rests_for_s <= 600
        assert (unknown.id, unknown.provider, unknown.workers) == ("never", "", 0)


async def is_retired(on: Crew) -> bool:
    line = on.line()
    (state,) = await read_keys(line, on.names, ["b"])
    await line.close()
    return state.condition is KeyCondition.RETIRED


async def test_no_part_of_a_secret_is_in_redis(valkey: RedisServer) -> None:
    async with crew(valkey.url) as on:
        worker = on.hire()
        await worker.call(limited("k", rpm=60))

        with valkey.client() as client:
            kept = repr(client.hgetall(on.names.provider_key("k")))
        assert "openai" in kept
        assert "secret-k" not in kept


@pytest.mark.parametrize(
    ("asked", "is_for_bulk"),
    [([BULK], True), ([INTERACTIVE], False), ([BULK, INTERACTIVE], False)],
    ids=["bulk", "interactive", "bulk, and interactive before it was asked for"],
)
async def test_room_is_asked_for_in_the_class_that_needs_it_most(
    valkey: RedisServer, asked: list[LaneClass], is_for_bulk: bool
) -> None:
    async with crew(valkey.url) as on:
        place, worker, line = limited(rpm=60), on.hire(), on.line()
        loop = asyncio.get_running_loop()
        waiting = [
            asyncio.create_task(worker.permits.acquire([place], one, until_at=loop.time() + 9.0))
            for one in asked
        ]

        await waiting[-1]

        # The script notes when bulk is next, once bulk has had something.
        noted = await line.call("HEXISTS", on.names.provider_key("k"), "before_bulk")
        await line.close()
        assert bool(noted) is is_for_bulk
        await asyncio.gather(*waiting)
