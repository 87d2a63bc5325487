"""What the ledger says reaches every account exactly once, whoever dies, stalls or races."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any, Final

import pytest
from redis.asyncio.connection import ConnectionPool
from typing_extensions import override

from embedpool_shared.accounts import SpendField
from embedpool_shared.jobs import Bill, LedgerRecord, encode, records_from
from embedpool_shared.scripts import Script, script
from embedpool_worker import books, rollup
from embedpool_worker.accounting import FENCED, saved_and_wasted
from embedpool_worker.books import FLEETING_MS
from embedpool_worker.endings import wasted
from embedpool_worker.rollup import Roller
from integration.by_hand import Hand
from integration.one_process import MODEL, Counting, Site, until
from support.vectors import token_count

if TYPE_CHECKING:
    from support.valkey import RedisServer

Sums = dict[str, Counter[str]]
FIELDS: Final = [spent.value for spent in SpendField if spent is not SpendField.PERIOD_COST]
_requests = count()


def record(draw: Random, *, number: int = 0) -> LedgerRecord:
    """One ending of anybody's job, with or without a bill, answered or not."""
    used, paid = draw.choice([(0, 0), (0, 9), (12, 12), (12, 0), (7, 9)])
    saved, waste = saved_and_wasted(used, paid)
    bill = None
    if draw.random() < 0.8:
        request = next(_requests)
        accounts = [f"team:{draw.randrange(2)}", f"end_user:{draw.randrange(9)}", "tag:t", "tag:t"]
        bill = Bill(f"r{request}", 2, accounts, part=draw.randrange(2))
    ending = LedgerRecord(
        "pack", number, f"key:{draw.randrange(3)}", MODEL, draw.choice(["", "openai"]),
        used=used, paid=paid, saved=saved, waste=waste, reason="" if used else "cancelled",
        price_per_token_pico_usd=20_000, cached=draw.choice([0, used]), bill=bill,
    )  # fmt: skip
    return wasted(ending) if draw.random() < 0.2 else ending


def some_entries(amount: int, *, seed: int = 1) -> list[list[LedgerRecord]]:
    """Ledger entries of one to four records each."""
    draw = Random(seed)
    return [[record(draw, number=n) for n in range(draw.randint(1, 4))] for _ in range(amount)]


def summed(entries: Sequence[Sequence[LedgerRecord]]) -> Sums:
    """What every account must say after these entries, added up one by one."""
    sums: Sums = {}
    for one in (one for entry in entries for one in entry):
        accounts = {one.account, f"model:{MODEL}", "global:all"}
        accounts |= set(one.bill.accounts) if one.bill else set()
        accounts |= {f"provider:{one.provider}"} if one.provider else set()
        is_first = not one.bill or one.bill.part == 0
        columns = {"used": one.used, "paid": one.paid, "saved": one.saved, "waste": one.waste}
        columns["requests"] = int(is_first and one.reason != FENCED)
        columns["cost"] = (one.used - one.cached) * one.price_per_token_pico_usd
        for account in accounts:
            sums.setdefault(account, Counter()).update(columns)
    return sums


async def written(site: Site, entries: Sequence[list[LedgerRecord]]) -> None:
    """Add entries to the ledger, as commits do."""
    await site.line("ledger").call_all(
        [("XADD", site.lane.ledger, "*", "r", encode(entry)) for entry in entries]
    )


async def accounts(site: Site) -> Sums:
    """What every account says."""
    sums: Sums = {}
    for name in await site.call("KEYS", f"{site.names.prefix}:[{{]acct:*}}"):
        values = await site.call("HMGET", name, *FIELDS)
        account = name.decode().partition("acct:")[2].removesuffix("}")
        found = {spent: int(value) for spent, value in zip(FIELDS, values, strict=True)}
        sums[account] = Counter(found)
    return sums


async def spend_log(site: Site) -> list[list[LedgerRecord]]:
    """Every entry of the spend log."""
    found = await site.call("XRANGE", site.names.spend_log, "-", "+")
    return [records_from(flat[1]) for _, flat in found]


async def is_rolled_up(site: Site) -> bool:
    """Tell whether the ledger is empty and nobody is at it."""
    is_left = await site.call("XLEN", site.lane.ledger)
    return not is_left and not await site.call("EXISTS", site.lane.roll)


async def without_lease(site: Site) -> None:
    """Let the lease of a roller that is gone run out."""
    if await site.call("EXISTS", site.lane.roll):
        await site.call("HSET", site.lane.roll, "until", 0)


async def test_what_a_worker_commits_is_rolled_up_soon_and_settles_its_reservations(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        rolling = roller(site, "h1")
        api, hand = site.api(), Hand(site, on_recorded=rolling.notice)
        site.spawn(rolling.run())
        answer = api.post(["two words"], ["one"])
        for part, posted in enumerate(answer.jobs):
            posted.job.account, posted.job.price_per_token_pico_usd = "key:k", 5
            posted.job.bill = Bill(
                "r1", 2, ["team:t"], ["key:k", "team:t"],
                part=part, reservation="r", reserved_tokens=(6, 3)[part],
            )  # fmt: skip
        names = [site.names.account(account) for account in ("key:k", "team:t")]
        for name in names:
            await site.line("admit").run(
                script("admit"),
                [name.account, name.window, name.held],
                ["", 1_000, "", 10_000, "a1", 0, 1_000, "r", 60_000, *[9, 45, 2] * 2],
            )
        await api.accepted(answer)
        (pack,) = await hand.take()

        await hand.commit([pack.open[0]])
        await until(lambda: is_rolled_up(site), "the first part is rolled up")
        reserved = [await site.call("HGET", name.held, ":cost") for name in names]
        await hand.commit([pack.open[1]])
        await until(lambda: is_rolled_up(site), "the second part is rolled up")

        sums = await accounts(site)
        first, second = 5 * token_count("two words"), 5 * token_count("one")
        assert reserved == [b"15"] * 2
        assert {sums[a]["requests"] for a in ("key:k", "team:t", "global:all")} == {1}
        assert {sums[a]["cost"] for a in ("key:k", "team:t", "global:all")} == {first + second}
        assert [await site.call("EXISTS", name.held) for name in names] == [0, 0]


async def test_made_up_ids_are_listed_bounded_and_end_by_themselves(
    valkey: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(books, "MOST_FLEETING", 3)
    async with Site(valkey.url) as site:
        for number in range(5):
            bill = Bill(f"r{number}", 1, [f"end_user:u:{number}", "team:t"])
            spent = LedgerRecord("p", 0, "key:k", MODEL, "openai", 3, 3, 0, 0, bill=bill)
            await written(site, [[spent]])
            await roll_up(site)

        async def listed(kind: str) -> list[bytes]:
            return sorted(await site.call("ZRANGE", site.names.accounts(kind), 0, -1))

        kept = await listed("end_user")
        assert len(kept) == 3
        assert {a for a in await accounts(site) if a.startswith("end_user:")} == {
            f"end_user:{name.decode()}" for name in kept
        }
        assert await listed("model") == [b"m"]
        assert await listed("provider") == [b"openai"]
        assert await listed("key") == await listed("team") == []
        fleeting = site.names.account(f"end_user:{kept[0].decode()}").account
        assert FLEETING_MS - 60_000 < await site.call("PTTL", fleeting) <= FLEETING_MS
        assert await site.call("PTTL", site.names.account("key:k").account) == -1


async def test_a_range_is_bounded_in_bytes_but_never_empty(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        entries = some_entries(150)
        await written(site, entries)
        sizes = [len(encode(entry)) for entry in entries]

        async def next_range(most_bytes: int, done: bytes = b"") -> list[bytes]:
            _, found = await site.line("test").run(
                script("roll"),
                [site.lane.roll, site.lane.ledger],
                ["w1", 60_000, 1_000, most_bytes, done],
            )
            return [entry_id for entry_id, _ in found]

        (first,) = await next_range(1)
        assert await next_range(10**9) == [first]
        assert len(await next_range(sum(sizes[1:121]), first)) == 120


class RollerKilled(BaseException):
    """The end of a process, as far as its roller can tell."""


class Mortal(Counting):
    """A line whose owner dies at one of its steps: before Redis hears of it, or right after."""

    def __init__(self, pool: ConnectionPool) -> None:
        super().__init__(pool)
        self.steps = 0
        self.dies_at = -1

    def _step(self) -> None:
        if self.steps == self.dies_at:
            raise RollerKilled
        self.steps += 1

    @override
    async def run(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Any], **options: Any
    ) -> Any:
        self._step()
        reply = await super().run(script, keys, arguments, **options)
        self._step()
        return reply

    @override
    async def run_all(
        self,
        script: Script,
        calls: Sequence[tuple[Sequence[str], Sequence[Any]]],
        **options: Any,
    ) -> list[Any]:
        self._step()
        replies = await super().run_all(script, calls, **options)
        self._step()
        return replies


def roller(site: Site, owner: str, *, line: Counting | None = None) -> Roller:
    """A roller of the test lane, on lines of its own or on this one."""
    lane_line = line or site.line(f"{owner}-roll")
    accounts_line = line or site.line(f"{owner}-roll-accounts")
    return Roller(lane_line, accounts_line, site.names, MODEL, owner=owner)


async def roll_up(site: Site, owner: str = "w1") -> None:
    """Roll up all that is there."""
    rolling = roller(site, owner)
    task = site.spawn(rolling.run())
    rolling.notice()
    await rolling.drained()
    task.cancel()


async def die_at(site: Site, owner: str, step: int) -> bool:
    """Roll up and die at this step; False if all was done before it came."""
    line = site.line_of(Mortal, owner)
    line.dies_at = step
    rolling = roller(site, owner, line=line)
    task = asyncio.ensure_future(rolling.run())
    rolling.notice()
    done = asyncio.ensure_future(rolling.drained())
    await asyncio.wait([task, done], return_when=asyncio.FIRST_COMPLETED)
    has_died = task.done() and isinstance(task.exception(), RollerKilled)
    for one in (task, done):
        one.cancel()
    await asyncio.gather(task, done, return_exceptions=True)
    return has_died


@pytest.fixture
def in_small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several ranges per roll-up, several pieces per range."""
    monkeypatch.setattr(rollup, "MAX_ENTRIES", 7)
    monkeypatch.setattr(books, "APPLIED_AT_ONCE", 9)
    monkeypatch.setattr(books, "COPIED_AT_ONCE", 4)


async def test_every_account_gets_what_the_ledger_says_and_the_ledger_is_empty(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        entries = some_entries(300)
        await written(site, entries)

        await roll_up(site)

        sums = await accounts(site)
        assert sums == summed(entries)
        assert all(s["used"] + s["waste"] == s["paid"] + s["saved"] for s in sums.values())
        assert await spend_log(site) == entries
        assert await is_rolled_up(site)


@pytest.mark.usefixtures("in_small_steps")
async def test_a_roller_killed_twice_at_any_two_steps_counts_nothing_twice_and_misses_nothing(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        entries = some_entries(12)
        expected, deaths, step, has_died = summed(entries), 0, 0, True

        while has_died:
            has_died = False
            for second in (step // 2, step, step + 3):
                valkey.restore()
                await written(site, entries[:10])
                has_died = await die_at(site, "first", step)
                await without_lease(site)
                await written(site, entries[10:])
                deaths += await die_at(site, "second", second)
                await without_lease(site)
                await roll_up(site, "third")

                assert await accounts(site) == expected, f"killed at {step} and {second}"
                assert await spend_log(site) == entries, f"killed at {step} and {second}"
                assert await is_rolled_up(site)
            step += 1

        assert step > 20
        assert deaths > 40


@pytest.mark.usefixtures("in_small_steps")
async def test_rollers_that_race_while_the_ledger_grows_share_it_without_a_loss(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        entries = some_entries(400)
        rollers = [roller(site, f"w{n}") for n in range(3)]
        for one in rollers:
            site.spawn(one.run())

        for at in range(0, 400, 20):
            await written(site, entries[at : at + 20])
            rollers[at % 3].notice()
        await asyncio.gather(*(one.drained() for one in rollers))
        await until(lambda: is_rolled_up(site), "all is rolled up")

        assert await accounts(site) == summed(entries)
        assert await spend_log(site) == entries


@pytest.mark.usefixtures("in_small_steps")
@pytest.mark.parametrize("stalls_at", range(1, 8))
@pytest.mark.parametrize("is_leased", [True, False], ids=["leased", "left behind"])
async def test_a_roller_that_lost_its_lease_neither_forgets_nor_counts_what_others_did(
    valkey: RedisServer, stalls_at: int, is_leased: bool
) -> None:
    async with Site(valkey.url) as site:
        entries = some_entries(21)
        await written(site, entries[:14])
        line = site.line_of(Stalling, "zombie")
        line.stalls_at = 2 * stalls_at  # a command is two steps
        zombie = roller(site, "zombie", line=line)
        task = site.spawn(zombie.run())
        await line.has_stalled.wait()

        await without_lease(site)
        await roll_up(site, "other")
        await written(site, entries[14:])
        await die_at(site, "third", 3)  # it has the lease, and a range under way
        if is_leased:
            line.may_go_on.set()
            await line.was_refused.wait()
            assert (await site.call("HGET", site.lane.roll, "owner")).startswith(b"third:")
            assert await site.call("XLEN", site.lane.ledger) == 7
        await without_lease(site)
        line.may_go_on.set()

        await until(lambda: is_rolled_up(site), "all is rolled up")
        task.cancel()
        assert await accounts(site) == summed(entries)
        assert await spend_log(site) == entries


class Stalling(Mortal):
    """A line whose owner hangs at one of its steps until it may go on."""

    def __init__(self, pool: ConnectionPool) -> None:
        super().__init__(pool)
        self.stalls_at = -1
        self.has_stalled = asyncio.Event()
        self.may_go_on = asyncio.Event()
        self.was_refused = asyncio.Event()

    async def _stall(self) -> None:
        if self.steps == self.stalls_at:
            self.has_stalled.set()
            await self.may_go_on.wait()

    @override
    async def run(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Any], **options: Any
    ) -> Any:
        await self._stall()
        reply = await super().run(script, keys, arguments, **options)
        if script.name == "roll" and not reply[0]:
            self.was_refused.set()
        return reply

    @override
    async def run_all(
        self,
        script: Script,
        calls: Sequence[tuple[Sequence[str], Sequence[Any]]],
        **options: Any,
    ) -> list[Any]:
        await self._stall()
        return await super().run_all(script, calls, **options)
