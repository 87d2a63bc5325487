"""When a roller looks, how long it lets others be, and that nothing ends it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest

from embedpool_shared.jobs import LedgerRecord, encode
from embedpool_shared.names import Names
from embedpool_shared.redis import RedisRefused
from embedpool_worker.rollup import AGAIN_S, GATHER_S, LOOK_EVERY_S, NEWER_PAUSE_S, Roller
from support.fake_line import FakeLine, Told
from support.virtual_time import in_virtual_time

RECORDS = encode([LedgerRecord("p", 0, "key:k", "m", "openai", 3, 3, 0, 0)])

_ids = count(1)


@dataclass
class Desk:
    """A roller of a lane whose ledger has these entries, as far as its own script can tell."""

    entries: list[tuple[bytes, list[bytes]]] = field(default_factory=list)
    is_taken: bool = False  # by another worker
    lane: FakeLine = field(default_factory=FakeLine)
    accounts: FakeLine = field(default_factory=FakeLine)

    def __post_init__(self) -> None:
        self.lane.answer = self._roll
        self.accounts.answer = lambda told: [[] for _ in told.keys] if told.what == "heard" else 1
        lane: Any = self.lane
        accounts: Any = self.accounts
        self.roller = Roller(lane, accounts, Names(), "m", owner="w1")

    def write(self, *blobs: bytes) -> None:
        self.entries += [(b"%d-0" % next(_ids), [b"r", blob]) for blob in blobs]

    def _roll(self, told: Told) -> Any:
        if self.is_taken:
            return [0]
        done = told.arguments[4]
        ids = [entry_id for entry_id, _ in self.entries]
        if done:
            del self.entries[: ids.index(done) + 1]
        return [1, list(self.entries)]

    def looks(self) -> list[float]:
        """When it asked for a range, since it began."""
        times = [told.at for told in self.lane.told]
        return [round(at - times[0], 3) for at in times]


@asynccontextmanager
async def rolling(desk: Desk) -> AsyncIterator[Roller]:
    task = asyncio.create_task(desk.roller.run())
    try:
        yield desk.roller
        assert not task.done()
    finally:
        task.cancel()


def run(desk: Desk, *notices_at: float, for_s: float) -> None:
    """Let it run, with a commit at each of these times."""

    async def main() -> None:
        async with rolling(desk) as roller:
            loop = asyncio.get_running_loop()
            began_at = loop.time()
            for at in notices_at:
                await asyncio.sleep(began_at + at - loop.time())
                desk.write(RECORDS)
                roller.notice()
            await asyncio.sleep(began_at + for_s - loop.time())

    in_virtual_time(main())


def test_an_idle_lane_costs_one_command_in_a_while() -> None:
    desk = Desk()

    run(desk, for_s=4 * LOOK_EVERY_S)

    assert len(desk.lane.told) <= 5
    assert not desk.accounts.told


def test_what_others_left_behind_is_rolled_up_without_a_commit_here() -> None:
    desk = Desk()
    desk.write(RECORDS, RECORDS)

    run(desk, for_s=1.0)

    assert [told.what for told in desk.accounts.told] == ["apply"] * 4 + ["heard", "spendlog"]
    assert not desk.entries


def test_commits_that_follow_each_other_closely_share_a_roll_up() -> None:
    desk = Desk()

    run(desk, 5.0, 5.1, 5.2, 5.3, for_s=7.0)

    assert desk.looks() == [0.0, 5.0 + GATHER_S, 5.0 + GATHER_S]
    assert len(desk.accounts.told_of("spendlog")) == 1


def test_a_commit_during_a_roll_up_has_the_next_one() -> None:
    desk = Desk()
    desk.accounts.takes_s = 0.1
    desk.write(RECORDS)

    run(desk, 0.2, for_s=3.0)

    assert not desk.entries
    assert max(desk.looks()) < 2.0


def test_while_another_worker_rolls_up_it_is_asked_again_shortly() -> None:
    desk = Desk(is_taken=True)

    run(desk, 1.1, for_s=2.2)

    assert desk.looks() == [0.0, AGAIN_S, 2 * AGAIN_S, 3 * AGAIN_S, 4 * AGAIN_S]


def test_draining_does_not_wait_for_more_commits() -> None:
    desk = Desk()

    async def main() -> None:
        async with rolling(desk) as roller:
            await asyncio.sleep(1.0)
            desk.write(RECORDS)
            roller.notice()
            began_at = asyncio.get_running_loop().time()
            await roller.drained()
            assert asyncio.get_running_loop().time() - began_at < GATHER_S / 2
            assert not desk.entries

    in_virtual_time(main())


def test_draining_waits_for_what_was_noticed_while_a_reply_was_on_its_way() -> None:
    desk = Desk()
    known = desk.lane.answer

    async def slowly(told: Told) -> Any:
        reply = known(told)
        await asyncio.sleep(0.1)
        return reply

    async def main() -> None:
        desk.lane.answer = slowly
        async with rolling(desk) as roller:
            await asyncio.sleep(0.05)  # Redis has said that nothing is left
            desk.write(RECORDS)
            roller.notice()
            await roller.drained()
            assert not desk.entries

    in_virtual_time(main())


@pytest.mark.parametrize("which", ["lane", "accounts"])
def test_redis_away_only_delays(which: str) -> None:
    desk = Desk()
    desk.write(RECORDS)
    line: FakeLine = getattr(desk, which)

    async def main() -> None:
        line.is_away = True
        async with rolling(desk):
            await asyncio.sleep(30.0)
            assert desk.entries
            line.is_away = False
            await asyncio.sleep(5.0)
            assert not desk.entries

    in_virtual_time(main())


def test_a_range_that_one_account_refused_is_not_forgotten(
    caplog: pytest.LogCaptureFixture,
) -> None:
    desk = Desk()
    desk.write(RECORDS)
    bad = Names().account("key:k").account
    kind = desk.accounts.answer
    desk.accounts.answer = lambda told: (
        RedisRefused("WRONGTYPE") if bad in told.keys else kind(told)
    )

    with caplog.at_level(logging.ERROR):
        run(desk, for_s=5.0)

    assert desk.entries
    assert not desk.accounts.told_of("spendlog")
    assert {told.arguments[4] for told in desk.lane.told} == {b""}
    assert "roll_up_refused" in caplog.text


def test_an_entry_that_makes_no_sense_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    desk.write(b"\x01nonsense", RECORDS)

    with caplog.at_level(logging.ERROR):
        run(desk, for_s=1.0)

    assert not desk.entries
    assert len(desk.accounts.told_of("apply")) == 4
    assert "ledger_unreadable" in caplog.text


def test_a_newer_workers_records_are_left_to_it(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    desk.write(b"\xffnewer")

    with caplog.at_level(logging.ERROR):
        run(desk, for_s=NEWER_PAUSE_S - 1)

    assert desk.looks() == [0.0]
    assert desk.entries
    assert not desk.accounts.told
    assert "ledger_newer" in caplog.text


def test_two_rollers_of_one_worker_are_two_owners() -> None:
    desk, other = Desk(), Desk()

    run(desk, for_s=1.0)
    run(other, for_s=1.0)

    assert desk.lane.told[0].arguments[0] != other.lane.told[0].arguments[0]
