"""An errand runs as a task would, but sooner."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from embedpool_api.errands import Errand


class Log:
    """What an errand did, and whether it is over."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.ended: list[Errand] = []
        self.errand = Errand(asyncio.get_running_loop(), on_end=self.ended.append)

    def begin(self, work: Coroutine[Any, Any, None]) -> Log:
        self.errand.begin(work)
        return self

    async def saying(self, awaited: Awaitable[Any]) -> None:
        self.said.append("begun")
        try:
            self.said.append(await awaited)
        except (asyncio.CancelledError, ValueError) as error:
            self.said.append(type(error))
            raise


def run(test: Callable[[asyncio.AbstractEventLoop], Awaitable[None]]) -> list[dict[str, Any]]:
    """Run `test`; return what was reported to the loop."""
    reports: list[dict[str, Any]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, report: reports.append(report))
        await test(loop)

    asyncio.run(main())
    return reports


async def a_turn() -> None:
    await asyncio.sleep(0)


def test_an_errand_begins_at_once_and_goes_on_when_told() -> None:
    async def test(loop: asyncio.AbstractEventLoop) -> None:
        log, awaited = Log(), loop.create_future()
        log.begin(log.saying(awaited))
        assert log.said == ["begun"]

        log.errand.go_on()
        assert log.said == ["begun"], "not before the answer is there"
        awaited.set_result("answer")
        log.errand.go_on()
        assert log.said == ["begun", "answer"]
        assert log.ended == [log.errand]

        await a_turn()
        log.errand.go_on()
        assert log.said == ["begun", "answer"], "once"
        assert log.ended == [log.errand]

    assert run(test) == []


def test_what_nobody_tells_of_wakes_it_all_the_same() -> None:
    async def test(loop: asyncio.AbstractEventLoop) -> None:
        log, awaited = Log(), loop.create_future()
        log.begin(log.saying(awaited))
        awaited.set_result("answer")
        assert log.said == ["begun"]
        await a_turn()
        assert log.said == ["begun", "answer"]

    assert run(test) == []


def test_a_late_wake_of_what_it_was_told_of_does_not_run_it_again() -> None:
    async def test(loop: asyncio.AbstractEventLoop) -> None:
        first, second = loop.create_future(), loop.create_future()
        seen: list[Any] = []

        async def work() -> None:
            seen.append(await first)
            seen.append(await second)

        log = Log()
        log.begin(work())
        first.set_result(1)
        log.errand.go_on()
        await a_turn()  # brings the first one's own wake
        assert seen == [1]
        second.set_result(2)
        await a_turn()
        assert seen == [1, 2]

    assert run(test) == []


def test_others_pass_while_it_lets_them() -> None:
    async def test(_: asyncio.AbstractEventLoop) -> None:
        log = Log()
        log.begin(log.saying(asyncio.sleep(0, "slept")))
        assert log.said == ["begun"]
        await a_turn()
        assert log.said == ["begun", "slept"]

    assert run(test) == []


def test_one_that_is_told_to_go_on_while_it_runs_just_runs() -> None:
    async def test(loop: asyncio.AbstractEventLoop) -> None:
        log, awaited = Log(), loop.create_future()

        async def work() -> None:
            awaited.set_result("answer")
            log.errand.go_on()
            await log.saying(awaited)

        log.begin(work())
        assert log.said == ["begun", "answer"]

    assert run(test) == []


@pytest.mark.parametrize("has_come", [False, True], ids=["waiting", "answered"])
def test_a_cancelled_one_ends_as_a_task_does(*, has_come: bool) -> None:
    async def test(loop: asyncio.AbstractEventLoop) -> None:
        log, awaited = Log(), loop.create_future()
        log.begin(log.saying(awaited))
        if has_come:
            awaited.set_result("answer")
        log.errand.cancel()
        await a_turn()
        assert log.said == ["begun", asyncio.CancelledError]
        assert log.ended == [log.errand]

    assert run(test) == []


def test_an_error_it_awaits_is_raised_in_it_and_one_nobody_caught_is_reported() -> None:
    async def test(loop: asyncio.AbstractEventLoop) -> None:
        log, awaited = Log(), loop.create_future()
        log.begin(log.saying(awaited))
        awaited.set_exception(ValueError("no"))
        log.errand.go_on()
        assert log.said == ["begun", ValueError]
        assert log.ended == [log.errand]

    (report,) = run(test)
    assert isinstance(report["exception"], ValueError)
