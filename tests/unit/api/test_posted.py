"""An answer is settled once, by whoever comes first."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from itertools import permutations
from typing import Any

import pytest

from embedpool_api.posted import Answer, PostedPack
from embedpool_shared.errors import InputRefused, Overloaded, QueueUnavailable
from embedpool_shared.jobs import JobReply, LaneClass, wire_error
from support.posting import answer_to, reply_to
from support.virtual_time import in_virtual_time


def is_accepted(answer: Answer) -> bool:
    return answer.is_accepted


def run(test: Coroutine[Any, Any, None]) -> None:
    in_virtual_time(test)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_replies_come_in_the_order_of_the_jobs(order: tuple[int, ...]) -> None:
    async def test() -> None:
        answer = answer_to(["a"], ["b"], ["c"])
        replies = [reply_to(0, bytes([n] * 4)) for n in range(3)]

        for position in order:
            assert not answer.done.done()
            answer.settle(position, replies[position])

        assert await answer.done == replies

    run(test())


def test_a_reply_that_comes_twice_counts_once() -> None:
    async def test() -> None:
        answer = answer_to(["a"], ["b"])

        answer.settle(0, reply_to(0, b"1111"))
        answer.settle(0, reply_to(0, b"2222"))
        assert not answer.done.done()
        answer.settle(1, reply_to(1))

        assert [reply.vectors for reply in await answer.done] == [b"1111", b"vvvv"]

    run(test())


def test_only_the_last_reply_is_told_in_its_moment() -> None:
    async def test() -> None:
        heard: list[bool] = []
        loop = asyncio.get_running_loop()
        answer, failed = (
            Answer(2, loop, give_up_at=0.0, on_replies=lambda: heard.append(answer.done.done()))
            for _ in range(2)
        )

        answer.settle(1, reply_to(1))
        failed.settle(0, reply_to(0))
        failed.fail(Overloaded("full"))
        failed.settle(1, reply_to(1))
        assert heard == []
        answer.settle(0, reply_to(0))
        answer.settle(0, reply_to(0))

        assert heard == [True]
        with pytest.raises(Overloaded):
            await failed.done

    run(test())


def test_the_first_error_ends_it() -> None:
    async def test() -> None:
        answer = answer_to(["a"], ["b"])
        refused = InputRefused("[openai] no", param="input", code="bad")

        answer.settle(1, JobReply(1, b"", 0, 0, error=wire_error(refused)))
        answer.settle(0, reply_to(0))
        answer.fail(QueueUnavailable("too late to matter"))

        with pytest.raises(InputRefused) as raised:
            await answer.done
        assert vars(raised.value) == vars(refused)

    run(test())


def test_nothing_escapes_once_the_caller_has_gone() -> None:
    async def test() -> None:
        answer = answer_to(["a"])
        answer.done.cancel()

        answer.settle(0, reply_to(0))
        answer.settle(0, JobReply(0, b"", 0, 0, error=wire_error(Overloaded("full"))))
        answer.fail(Overloaded("full"))

        assert answer.done.cancelled()

    run(test())


def test_an_answer_is_accepted_once_redis_confirmed_every_job() -> None:
    async def test() -> None:
        answer = answer_to(["a"], ["b"])
        first, second = (
            PostedPack(pack_id, LaneClass.INTERACTIVE, 1, 1, 1, 0, 60.0) for pack_id in "pq"
        )
        assert not is_accepted(answer)

        answer.jobs[0].pack, first.is_accepted = first, True
        assert not is_accepted(answer)
        answer.jobs[1].pack = second
        assert not is_accepted(answer)
        second.is_accepted = True

        assert is_accepted(answer)

    run(test())


def test_a_refused_input_is_named_by_its_place_in_the_request() -> None:
    async def test() -> None:
        answer = answer_to(["a", "b", "c"], ["d", "e"])
        error = wire_error(InputRefused("[openai] no", param="input[1]"))

        answer.settle(1, JobReply(0, b"", 0, 0, error=error))

        with pytest.raises(InputRefused) as found:
            await answer.done
        assert found.value.param == "input[4]"

    run(test())


@pytest.mark.parametrize(("lets_go", "leaves"), [(True, False), (False, True)])
def test_an_answer_that_let_its_jobs_go_leaves_nothing_for_the_collector(
    lets_go: bool, leaves: bool
) -> None:
    async def test() -> None:
        gc.collect()
        answer = answer_to(["a"], ["b"])
        if lets_go:
            answer.let_go()
        del answer

        assert bool(gc.collect()) is leaves

    run(test())
