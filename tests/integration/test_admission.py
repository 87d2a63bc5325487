"""Several api processes' admissions against one real server: limits hold, nothing stays behind."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from embedpool_api.admission import WHOLE_REQUESTS, Admission
from embedpool_api.asks import Admitted
from embedpool_shared.accounts import PICO_PER_USD, Limits
from embedpool_shared.errors import (
    BudgetExceeded,
    EmbedPoolError,
    QueueUnavailable,
    RateLimited,
    RequestExceedsLimit,
)
from embedpool_shared.redis import Line, RedisRefused
from embedpool_shared.scripts import script
from integration.account_by_hand import Account, Settled
from integration.one_process import Site, until
from support.valkey import RedisServer

KEY, TEAM, USER = "key:k", "team:t", "user:u"


class Door:
    """The admissions of some api processes."""

    def __init__(self, site: Site, *, processes: int = 1) -> None:
        self._owners: dict[int, Admission] = {}
        self.site = site
        self.admissions = [
            Admission(site.line, site.names, api_id=f"a{n}", spawn=site.spawn)
            for n in range(processes)
        ]

    async def admit(
        self, *limited: tuple[str, Limits], tokens: int = 1, cost: int = 0, process: int = 0
    ) -> Admitted:
        owner = self.admissions[process]
        admitted = await owner.admit(limited, tokens=tokens, cost_pico_usd=cost, hold_s=180.0)
        self._owners[id(admitted)] = owner
        return admitted

    def end(self, admitted: Admitted) -> None:
        self._owners[id(admitted)].ended(admitted)

    def give_back(self, admitted: Admitted) -> None:
        self._owners[id(admitted)].give_back(admitted)

    async def admit_many(
        self, count: int, *limited: tuple[str, Limits], **wanted: int
    ) -> tuple[list[Admitted], list[EmbedPoolError]]:
        """Ask so often at once, with all processes in turn; anything but our errors is raised."""
        asked = [
            self.admit(*limited, process=n % len(self.admissions), **wanted) for n in range(count)
        ]
        said = await asyncio.gather(*asked, return_exceptions=True)
        admitted = [one for one in said if isinstance(one, Admitted)]
        refused = [one for one in said if isinstance(one, EmbedPoolError)]
        assert len(admitted) + len(refused) == count, said
        return admitted, refused

    async def in_flight(self, account: str = KEY) -> str:
        found = await self.site.call("HGET", self.site.names.account(account).held, ":leases")
        return (found or b"").decode()

    async def is_empty(self) -> bool:
        names: list[bytes] = await self.site.call("KEYS", "*:held*")
        return not names


async def test_exactly_as_many_as_the_limit_pass_over_several_processes(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        door = Door(site, processes=4)

        admitted, refused = await door.admit_many(500, (KEY, Limits(rpm=100)))

        assert len(admitted) == 100
        assert {type(error).__mro__[1] for error in refused} == {RateLimited}
        assert all(59.0 < (error.retry_after_s or 0) <= 60.1 for error in refused)
        left = [int(dict(one.headers())[b"x-ratelimit-remaining-requests"]) for one in admitted]
        assert sorted(left) == list(range(100))


async def test_a_budget_ends_where_it_ends(valkey: RedisServer) -> None:
    budget, cost = PICO_PER_USD, PICO_PER_USD // 100
    async with Site(valkey.url) as site:
        door = Door(site, processes=3)

        admitted, refused = await door.admit_many(
            500, (KEY, Limits(budget_pico_usd=budget)), cost=cost
        )

        assert len(admitted) == 100
        assert {type(error) for error in refused} == {BudgetExceeded}
        with valkey.client() as client:
            account = Account(client)
            let_in = Counter(one.share.reservation for one in admitted)
            settled = [Settled(r, jobs, jobs, jobs * cost) for r, jobs in let_in.items()]
            account.apply(*settled, cost=cost * len(admitted))
            assert int(account.hash()["cost"]) == budget
        assert await door.is_empty()
        with pytest.raises(BudgetExceeded, match=r"Budget used up for key: \$1"):
            await door.admit((KEY, Limits(budget_pico_usd=budget)), cost=cost)


async def test_all_requests_of_a_tick_make_one_call_per_account(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        door = Door(site)
        limits = Limits(rpm=1_000)
        await door.admit((KEY, limits))
        await site.call("CONFIG", "RESETSTAT")

        await door.admit_many(WHOLE_REQUESTS, (KEY, limits), (TEAM, limits), (USER, limits))

        found: Any = await site.call("INFO", "commandstats")
        (row,) = [line for line in found.decode().splitlines() if "cmdstat_evalsha" in line]
        assert "calls=3," in row


async def test_what_one_account_grants_and_another_refuses_goes_back(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        door = Door(site)
        wide, narrow = Limits(tpm=1_000, parallel=9), Limits(tpm=100)

        admitted, refused = await door.admit_many(5, (KEY, wide), (TEAM, narrow), tokens=60)

        assert len(admitted) == 1
        assert {error.message[:30] for error in refused} == {"Rate limit exceeded for team: "}

        async def has_one() -> bool:
            sums = await site.call("HGET", site.names.account(KEY).window, ":sums")
            is_alone = (await door.in_flight()).startswith("a0 1 ")
            return is_alone and sums.split()[:2] == [b"1", b"60"]

        await until(has_one, "the key counts only the one let in")


async def test_a_request_that_never_fits_is_told_so_and_leaves_nothing(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        door = Door(site)

        with pytest.raises(RequestExceedsLimit, match=r"501 tokens .* user .* 500 tokens"):
            await door.admit((KEY, Limits(rpm=9)), (USER, Limits(tpm=500)), tokens=501)

        await until(door.is_empty, "the key's reservation is given back")


async def test_parallel_requests_count_over_processes_until_they_end(valkey: RedisServer) -> None:
    limits = Limits(parallel=10)
    async with Site(valkey.url) as site:
        door = Door(site, processes=2)
        admitted, refused = await door.admit_many(30, (KEY, limits))
        assert len(admitted) == 10
        assert all("10 parallel requests" in error.message for error in refused)

        for one in admitted[:4]:
            door.end(one)
            door.end(one)  # the second time it has ended already

        again, _ = await door.admit_many(30, (KEY, limits))
        assert len(again) == 4
        for one in admitted + again:
            door.end(one)
        await until(door.is_empty, "nothing is in flight")


async def test_what_a_dead_process_had_in_flight_counts_no_more_once_its_lease_lapsed(
    valkey: RedisServer,
) -> None:
    limits = Limits(parallel=3)
    async with Site(valkey.url) as site:
        door = Door(site, processes=2)
        for _ in range(3):
            await door.admit((KEY, limits), process=0)
        with pytest.raises(RateLimited, match="3 parallel requests"):
            await door.admit((KEY, limits), process=1)

        api, count, ends = (await door.in_flight()).split()
        lapsed = f"{api} {count} {int(ends) - 15_001}"
        await site.call("HSET", site.names.account(KEY).held, ":leases", lapsed)

        await door.admit((KEY, limits), process=1)
        assert (await door.in_flight()).startswith("a1 1 ")


async def test_requests_in_flight_are_said_again_after_redis_forgot_them(
    valkey: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedpool_api.admission.REARM_S", 0.05)
    async with Site(valkey.url) as site:
        door = Door(site)
        admitted = [await door.admit((KEY, Limits(parallel=3))) for _ in range(2)]
        await site.call("FLUSHALL")

        async def are_back() -> bool:
            return (await door.in_flight()).startswith("a0 2 ")

        await until(are_back, "both are in flight again")
        for one in admitted:
            door.end(one)
        await until(door.is_empty, "nothing is in flight")


async def test_a_request_given_back_counts_nowhere(valkey: RedisServer) -> None:
    limits = Limits(rpm=1, tpm=10, parallel=1, budget_pico_usd=10)
    async with Site(valkey.url) as site:
        door = Door(site)

        for _ in range(5):
            admitted = await door.admit((KEY, limits), (TEAM, limits), tokens=10, cost=10)
            door.give_back(admitted)
            await until(door.is_empty, "nothing is reserved")


async def test_a_caller_who_leaves_while_asking_leaves_nothing(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        door = Door(site)
        limits = Limits(rpm=50, parallel=50)
        asking = [asyncio.ensure_future(door.admit((KEY, limits))) for _ in range(40)]
        await asyncio.sleep(0)
        valkey.pause()
        try:
            await asyncio.sleep(0.01)  # the call is on its way, its reply is not
            for task in asking:
                task.cancel()
            await asyncio.wait(asking)
        finally:
            valkey.resume()

        assert all(task.cancelled() for task in asking)
        await until(door.is_empty, "all is given back")
        admitted, _ = await door.admit_many(60, (KEY, limits))
        assert len(admitted) == 50


@pytest.mark.parametrize(
    "command", [["FLUSHALL"], ["SCRIPT", "FLUSH"]], ids=["all is lost", "the scripts are lost"]
)
async def test_forgetting_everything_stops_nobody(valkey: RedisServer, command: list[str]) -> None:
    async with Site(valkey.url) as site:
        door = Door(site)
        limits = Limits(rpm=9)
        await door.admit((KEY, limits), (TEAM, limits))

        await site.call(*command)

        await door.admit((KEY, limits), (TEAM, limits))


@pytest.mark.parametrize("way", ["killed", "paused"])
async def test_without_redis_a_caller_is_told_within_a_second_and_later_let_in(
    valkey: RedisServer, way: str
) -> None:
    async with Site(valkey.url) as site:
        door = Door(site)
        limits = Limits(rpm=1, parallel=1)
        door.give_back(await door.admit((KEY, limits)))
        await until(door.is_empty, "nothing is reserved")
        valkey.kill() if way == "killed" else valkey.pause()

        for _ in range(3):
            async with asyncio.timeout(1.0):
                with pytest.raises(QueueUnavailable) as told:
                    await door.admit((KEY, limits))
            assert told.value.retry_after_s == 1.0

        valkey.start() if way == "killed" else valkey.resume()
        await until(door.is_empty, "what may have been granted is given back")
        await door.admit((KEY, limits))


async def test_a_full_redis_refuses_to_let_in_but_takes_back(valkey: RedisServer) -> None:
    limits = Limits(rpm=9, parallel=9)
    async with Site(valkey.url) as site:
        door = Door(site)
        admitted = await door.admit((KEY, limits))
        await site.call("CONFIG", "SET", "maxmemory", "1")
        try:
            with pytest.raises(QueueUnavailable):
                await door.admit((KEY, limits))
            door.give_back(admitted)
            await until(door.is_empty, "it is given back")
        finally:
            await site.call("CONFIG", "SET", "maxmemory", "0")


async def test_one_refused_call_of_several_leaves_the_others_their_replies(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        line: Line = site.line("any")
        await site.call("SET", "a", "not a hash")

        replies = await line.run_all(
            script("release"),
            [(["w", name], ["a1", "", 1, "r", 0, 1, 1, 1]) for name in ("h", "a", "h")],
        )

        assert [replies[0], replies[2]] == [0, 0]
        assert isinstance(replies[1], RedisRefused)
