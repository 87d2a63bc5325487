"""Replies find their answers, whatever else the stream holds and however often it breaks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest

from embedpool_api.inbox import BLOCK_S, Inbox
from embedpool_api.posted import Answer, PostedPack
from embedpool_shared.jobs import WIRE_VERSION, LaneClass, Reply, encode
from support.fake_line import AWAY, FakeLine, Told
from support.posting import answer_to, reply_to
from support.virtual_time import in_virtual_time

STREAM = "ep:{lane:m}:in:api-1"


class Desk:
    """An inbox, and the stream it reads as Redis would serve it."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, bytes]] = []
        self.changed = asyncio.Event()
        self.packs: dict[str, PostedPack] = {}
        self.broken: list[float] = []
        self.line = FakeLine(self._answer)
        any_line: Any = self.line
        self.inbox = Inbox(any_line, STREAM, self.packs, on_broken=self._note_broken)

    def _note_broken(self) -> None:
        self.broken.append(asyncio.get_running_loop().time())

    def _answer(self, told: Told) -> Any:
        return self._read(told) if told.what == "XREAD" else 1

    async def _read(self, told: Told) -> Any:
        last = int(told.arguments[-1].partition("-")[0])
        try:
            async with asyncio.timeout(told.arguments[3] / 1_000):
                while not (new := [entry for entry in self.entries if entry[0] > last]):
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            return None
        listed = [(b"%d-0" % number, [b"r", blob]) for number, blob in new[: told.arguments[1]]]
        return [[STREAM.encode(), listed]]

    def add(self, blob: bytes) -> None:
        self.entries.append((len(self.entries) + 1, blob))
        self.changed.set()

    def reply(self, pack_id: str, *numbers: int) -> None:
        """Commit replies with a vector that names the pack's job."""
        jobs = [reply_to(number, bytes([number] * 4)) for number in numbers]
        self.add(encode(Reply(pack_id, jobs)))

    def post(self, pack_id: str, jobs: int = 1) -> list[Answer]:
        """Post so many requests of one job in one pack."""
        pack = PostedPack(pack_id, LaneClass.INTERACTIVE, jobs, jobs, jobs, 0, 60.0)
        answers = [answer_to(["x"]) for _ in range(jobs)]
        pack.open = {number: answer.jobs[0] for number, answer in enumerate(answers)}
        self.packs[pack_id] = pack
        return answers

    def commands(self) -> list[list[str]]:
        """The commands of each write: all up to its blocking read."""
        writes: list[list[str]] = [[]]
        for told in self.line.told:
            writes[-1].append(told.what)
            if told.what == "XREAD":
                writes.append([])
        return writes[:-1]


def run(test: Callable[[Desk], Awaitable[None]]) -> Desk:
    async def main() -> Desk:
        desk = Desk()
        task = asyncio.create_task(desk.inbox.run())
        try:
            await test(desk)
            await asyncio.sleep(0.001)
            assert not task.done(), "the inbox never dies"
        finally:
            task.cancel()
        return desk

    return in_virtual_time(main())


def vectors_of(answer: Answer) -> list[bytes]:
    return [reply.vectors for reply in answer.done.result()]


def test_a_reply_settles_the_answers_of_its_jobs() -> None:
    async def test(desk: Desk) -> None:
        first, second = desk.post("p", 2)

        desk.reply("p", 1, 0)
        await asyncio.sleep(0.001)

        assert vectors_of(first) == [b"\0" * 4]
        assert vectors_of(second) == [b"\1" * 4]
        assert not desk.packs

    run(test)


def test_a_pack_answered_in_parts_is_kept_until_its_last_reply() -> None:
    async def test(desk: Desk) -> None:
        first, second = desk.post("p", 2)

        desk.reply("p", 1)
        await asyncio.sleep(0.001)
        assert second.done.done()
        assert not first.done.done()
        assert desk.packs["p"].was_answered
        desk.reply("p", 0)
        await asyncio.sleep(0.001)

        assert first.done.done()
        assert not desk.packs

    run(test)


def test_replies_to_nobody_and_replies_that_come_twice_are_ignored() -> None:
    async def test(desk: Desk) -> None:
        first, second = desk.post("p", 2)

        desk.reply("unknown", 0)
        desk.reply("p", 0)
        desk.reply("p", 0, 9)
        desk.reply("p", 1)
        desk.reply("p", 1)
        await asyncio.sleep(0.001)

        assert (first.done.done(), second.done.done()) == (True, True)

    run(test)


def test_a_caller_that_has_gone_does_not_end_the_reading() -> None:
    async def test(desk: Desk) -> None:
        gone, stays = desk.post("p", 2)
        gone.done.cancel()

        desk.reply("p", 0)
        desk.reply("p", 1)
        await asyncio.sleep(0.001)

        assert vectors_of(stays) == [b"\1" * 4]

    run(test)


@pytest.mark.parametrize(
    "blob",
    [bytes([WIRE_VERSION + 1]) + b"x", bytes([WIRE_VERSION]) + b"\xc1", b""],
    ids=["from the future", "junk", "nothing"],
)
def test_a_reply_nobody_can_read_is_logged_and_passed_over(
    blob: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(desk: Desk) -> None:
        (answer,) = desk.post("p")

        desk.add(blob)
        desk.reply("p", 0)
        await asyncio.sleep(0.001)

        assert answer.done.done()

    with caplog.at_level(logging.ERROR):
        run(test)

    assert "reply_unreadable" in caplog.text


def test_a_pack_whose_callers_marks_are_not_told_yet_is_kept() -> None:
    async def test(desk: Desk) -> None:
        desk.post("p", 2)
        desk.packs["p"].cancelled.append(desk.packs["p"].open.pop(1))

        desk.reply("p", 0)
        await asyncio.sleep(0.001)

        assert "p" in desk.packs

    run(test)


def test_each_read_goes_on_after_the_last_and_trims_it_in_the_same_write() -> None:
    async def test(desk: Desk) -> None:
        desk.post("p", 3)
        for number in range(3):
            desk.reply("p", number)
            await asyncio.sleep(0.001)

    desk = run(test)

    assert desk.commands() == [["PEXPIRE", "XREAD"], *[["XTRIM", "XREAD"]] * 3]
    assert [told.arguments[-1] for told in desk.line.told_of("XREAD")] == [
        "0-0", "1-0", "2-0", "3-0",
    ]  # fmt: skip
    assert [told.arguments for told in desk.line.told_of("XTRIM")] == [
        [STREAM, "MINID", f"{n}-1"] for n in (1, 2, 3)
    ]


def test_the_stream_is_kept_alive_while_nothing_comes() -> None:
    async def test(_: Desk) -> None:
        await asyncio.sleep(2 * BLOCK_S + 1.0)

    desk = run(test)

    expiries = desk.line.told_of("PEXPIRE")
    assert [told.at for told in expiries] == [0.0, BLOCK_S, 2 * BLOCK_S]
    assert all(told.arguments == [STREAM, 120_000] for told in expiries)
    assert not desk.line.told_of("XTRIM")


def test_a_busy_stream_is_kept_alive_without_doing_so_at_each_read() -> None:
    async def test(desk: Desk) -> None:
        desk.post("p", 45)
        for number in range(45):
            desk.reply("p", number)
            await asyncio.sleep(1.0)

    desk = run(test)

    assert [round(told.at) for told in desk.line.told_of("PEXPIRE")] == [0, 21, 42]


def test_a_broken_connection_is_reported_and_nothing_is_missed() -> None:
    async def test(desk: Desk) -> None:
        first, second = desk.post("p", 2)
        desk.reply("p", 0)
        await asyncio.sleep(0.001)
        usual, desk.line.answer = desk.line.answer, lambda _: AWAY
        desk.reply("p", 1)  # wakes the read that is under way; the ones after it fail
        await asyncio.sleep(5.0)
        desk.line.answer = usual
        await asyncio.sleep(2.0)

        assert first.done.done()
        assert second.done.done()

    desk = run(test)

    pauses = [later - earlier for earlier, later in pairwise(desk.broken)]
    assert len(desk.broken) > 3
    assert all(0.0 < pause <= 1.0 for pause in pauses)


def test_a_reply_onto_a_dead_connection_is_read_again() -> None:
    async def test(desk: Desk) -> None:
        (answer,) = desk.post("p")
        await asyncio.sleep(0.001)
        desk.line.loses_replies = 1

        desk.reply("p", 0)
        await asyncio.sleep(1.0)

        assert answer.done.done()

    desk = run(test)

    assert len(desk.broken) == 1
