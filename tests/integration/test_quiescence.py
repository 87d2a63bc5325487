"""When all is done: nothing waits or is leased, every count is zero, every name has an end."""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from embedpool_api.inbox import REPLIES_PER_READ
from embedpool_shared.jobs import LaneClass
from embedpool_worker.arq_workers import maintenance_worker, run_for_ever
from embedpool_worker.bulk.leading import Leading
from embedpool_worker.handover import hand_over
from embedpool_worker.maintenance import Housekeeper
from integration.history import History
from integration.one_process import Embedder, Site, observed, until

if TYPE_CHECKING:
    from integration.one_process import WorkerSide
    from support.valkey import RedisServer

OWNED: Final = (
    r"{lane:m}:(i|b)",  # the lane's streams: empty, with their group
    r"{lane:m}:depth",
    r"{lane:m}:ledger",  # bounded, trimmed by the roll-up
    r"{acct:(key|team|user|model|provider|caller|global):.*}|{acct:alice}",
    r"{accounts}:\w+",
    r"{spendlog}(:seen)?",
    r"{lane:m}:dead",  # capped
    r"{lanes}(:known)?",
    r"catalog",
)
"""Names without a TTL, and who bounds them; every other name ends by itself."""

MAX_IDLE_COMMANDS_PER_S: Final = 2.0
IDLE_WINDOW_S: Final = 6.0
IDLE_LANES: Final = 4


async def names_without_an_end(site: Site) -> list[str]:
    """Every name under the site's prefix that neither expires nor is in `OWNED`."""
    owned = re.compile(re.escape(site.names.prefix) + ":(" + "|".join(OWNED) + ")")
    names = [name.decode() for name in await site.call("KEYS", f"{site.names.prefix}:*")]
    return [
        name for name in names if await site.call("PTTL", name) == -1 and not owned.fullmatch(name)
    ]


async def test_after_a_storm_of_endings_every_count_is_zero_and_every_name_has_an_end(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        embedder = Embedder(latency_s=0.002)
        victim = site.worker(embedder, "victim", max_items=8)
        site.worker(embedder, "survivor", max_items=8)
        api = site.api()
        history = History(api)
        running = [
            site.spawn(history.ask_each([f"t{c}-{n}" for n in range(20)])) for c in range(20)
        ]
        await until(lambda: len(history.answered) > 50, "the load is on")

        for number in range(60):
            texts = [f"given up {number}-{i}" for i in range(3)]
            answer = api.post(texts, texts, lane_class=list(LaneClass)[number % 2])
            await asyncio.sleep(0)
            api.give_up(answer)
        await victim.kill()
        await hand_over(site.line("supervisor"), site.names, consumer="victim")
        await asyncio.gather(*running)

        history.check(400)
        await until(site.is_quiet, "nothing is left")
        assert await names_without_an_end(site) == []
        assert await site.consumers() == ["survivor"]
        assert await site.call("XLEN", site.lane.inbox("a1")) <= REPLIES_PER_READ


async def test_ten_times_the_work_leaves_no_more_names_behind(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        site.worker(Embedder())
        api = site.api()

        async def names_after(requests: int) -> set[bytes]:
            for number in range(requests):
                await api.ask(f"text {number}")
            await until(site.is_quiet, "nothing is left")
            names = await site.call("KEYS", "*")
            return {name for name in names if b":pk:" not in name}

        few = await names_after(10)

        assert await names_after(100) == few


@pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")  # by arq
async def test_an_idle_pool_of_four_lanes_costs_two_commands_a_second_per_process(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        api, worker = site.api(), site.worker(Embedder())
        observed(site, api, worker)
        keep_house(site, worker)
        for lane in range(IDLE_LANES):
            assert await api.ask("warm", model=f"m{lane}")
            await until(partial(site.is_rolled_up, f"m{lane}"), "its records are rolled up")
        before = await site.commands_by_process()

        await asyncio.sleep(IDLE_WINDOW_S)  # idleness is what is measured, so it takes its time

        after = await site.commands_by_process()
        per_s = {who: (after[who] - before.get(who, 0)) / IDLE_WINDOW_S for who in after}
        assert per_s["a1"] <= MAX_IDLE_COMMANDS_PER_S
        assert per_s["w1"] <= MAX_IDLE_COMMANDS_PER_S


def keep_house(site: Site, worker: WorkerSide) -> None:
    """Run the chores of a worker process."""
    housekeeper = Housekeeper(site.line("w1-tidy"), site.line("w1-directory"), site.names)
    pool = site.pool("w1-arq")

    async def tidy() -> None:
        await housekeeper.tidy(frozenset({worker.worker_id}))

    site.spawn(run_for_ever(lambda: maintenance_worker(pool, site.names, tidy)))

    async def lead(_epoch: int) -> None:
        pytest.fail("nobody leads while there is no batch")

    line = site.line("w1-lead")
    site.spawn(Leading(line, site.names, lead, worker_id=worker.worker_id).run())


async def test_the_chores_drop_consumers_that_are_gone_but_not_what_they_hold(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        api = site.api()
        await api.flushed()
        gone, silent = (site.worker(Embedder(), name) for name in ("gone", "silent"))
        await until(lambda: site.has_consumers({"gone", "silent"}), "both are known")
        for worker in (gone, silent):
            await worker.kill()
        answer = api.post(["held"])
        await api.accepted(answer)
        stream = site.lane.stream(LaneClass.INTERACTIVE)
        await site.call("XREADGROUP", "GROUP", "pool", "silent", "COUNT", 1, "STREAMS", stream, ">")

        await Housekeeper(site.line("tidy"), site.line("directory"), site.names).tidy(frozenset())

        assert await site.consumers() == ["silent"]
        assert await site.pending("silent") == 1
