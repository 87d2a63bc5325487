"""A lane is opened once, told to the workers, and carries requests there and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from embedpool_api.lanes import Lanes
from embedpool_api.outbox import QueueBounds
from embedpool_api.posted import Answer
from embedpool_shared.jobs import LaneClass, Reply, encode, pack_from
from embedpool_shared.names import Names
from support.fake_line import FakeLine, Told
from support.posting import MERGE, job_of, marked, reply_to
from support.virtual_time import in_virtual_time


class Redis:
    """Whatever is enqueued is answered after `takes_s`; lines are remembered by role."""

    def __init__(self, *, takes_s: float = 0.01) -> None:
        self.takes_s = takes_s
        self.lines: list[tuple[str, FakeLine]] = []
        self.is_away = False
        self._replies: dict[str, asyncio.Queue[bytes]] = {}

    def line(self, role: str) -> Any:
        made = FakeLine(self._answer, is_away=self.is_away)
        self.lines.append((role, made))
        return made

    def of(self, role: str) -> list[FakeLine]:
        return [line for known, line in self.lines if known == role]

    def go_away(self, *, is_away: bool) -> None:
        self.is_away = is_away
        for _, line in self.lines:
            line.is_away = is_away

    def _inbox(self, name: str) -> asyncio.Queue[bytes]:
        return self._replies.setdefault(name, asyncio.Queue())

    def _answer(self, told: Told) -> Any:
        if told.what == "enqueue":
            asyncio.get_running_loop().call_later(self.takes_s, self._reply, told)
            return [1, 1, 1, 0]
        return self._read(told) if told.what == "XREAD" else 1

    def _reply(self, told: Told) -> None:
        pack = pack_from(told.arguments[2])
        replies = [reply_to(job.number, repr(job.inputs).encode()) for job in pack.jobs]
        self._inbox(told.keys[3]).put_nowait(encode(Reply(told.arguments[1], replies)))

    async def _read(self, told: Told) -> Any:
        name, last = told.arguments[-2], told.arguments[-1]
        blob = await self._inbox(name).get()
        return [[name, [(b"%d-0" % (int(last.partition("-")[0]) + 1), [b"r", blob])]]]


@asynccontextmanager
async def lanes_on(redis: Redis) -> AsyncIterator[Lanes]:
    tasks: set[asyncio.Task[None]] = set()
    yield Lanes(
        Names(),
        redis.line,
        api_id="api-1",
        bounds=QueueBounds(1_000, 100_000),
        seal=marked,
        spawn=lambda work: tasks.add(asyncio.create_task(work)),
    )
    for task in tasks:
        assert not task.done() or task.exception() is None
        task.cancel()


def post(lanes: Lanes, *texts: str, model: str = "m") -> Answer:
    jobs = [job_of(text) for text in texts]
    loop = asyncio.get_running_loop()
    answer = Answer(len(jobs), loop, give_up_at=loop.time() + 60.0)
    lanes.post(answer, model, LaneClass.INTERACTIVE, MERGE, jobs)
    return answer


def test_a_requests_jobs_come_back_in_their_order() -> None:
    async def run() -> list[bytes]:
        async with lanes_on(Redis()) as lanes:
            return [reply.vectors for reply in await post(lanes, "a", "b", "c").done]

    assert in_virtual_time(run()) == [b"['a']", b"['b']", b"['c']"]


def test_a_lane_is_opened_and_announced_at_its_first_use_only() -> None:
    redis = Redis()

    async def run() -> None:
        async with lanes_on(redis) as lanes:
            for _ in range(3):
                await post(lanes, "x").done
            await post(lanes, "y", model="n").done

    in_virtual_time(run())

    assert [role for role, _ in redis.lines].count("enqueue") == 2
    assert [role for role, _ in redis.lines].count("inbox") == 2
    announced = [told.arguments for line in redis.of("announce") for told in line.told]
    assert {tuple(names) for names in announced} == {("m",), ("n",)}
    assert all(line.is_closed for line in redis.of("announce"))


def test_a_lane_is_announced_even_if_redis_is_away_at_first() -> None:
    redis = Redis()

    async def run() -> None:
        async with lanes_on(redis) as lanes:
            redis.go_away(is_away=True)
            answer = post(lanes, "x")
            await asyncio.sleep(0.2)
            assert lanes.is_away("m")
            assert not lanes.is_away("never used")
            assert not answer.is_accepted
            redis.go_away(is_away=False)
            await answer.done
            await asyncio.sleep(1.0)
            assert not lanes.is_away("m")

    in_virtual_time(run())

    assert redis.of("announce")[0].told_of("announce")


def test_a_redis_that_forgot_is_told_everything_again() -> None:
    redis = Redis(takes_s=5.0)

    async def run() -> None:
        async with lanes_on(redis) as lanes:
            answer = post(lanes, "x")
            await asyncio.sleep(1.0)
            announced = len(redis.of("announce"))
            lanes.repeat_all()
            await asyncio.sleep(0.1)
            assert len(redis.of("announce")) == announced + 1
            await answer.done

    in_virtual_time(run())

    first, again = redis.of("enqueue")[0].told_of("enqueue")
    assert first.arguments[1] == again.arguments[1]


def test_an_abandoned_answer_takes_its_work_along() -> None:
    redis = Redis(takes_s=5.0)

    async def run() -> None:
        async with lanes_on(redis) as lanes:
            answer = post(lanes, "x", "y")
            await asyncio.sleep(0.1)
            answer.done.cancel()
            lanes.abandon("m", answer)
            lanes.abandon("never used", answer)
            await asyncio.sleep(0.1)

    in_virtual_time(run())

    (told,) = redis.of("enqueue")[0].told_of("cancel")
    assert told.arguments[1:3] == ["0,1", 1]
