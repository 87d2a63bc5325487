"""What the admission asks Redis, when, and what becomes of requests when Redis does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from embedpool_api.admission import LEASE_MS, REARM_S, WHOLE_REQUESTS, Admission
from embedpool_api.asks import Admitted, Ask, Share
from embedpool_shared.accounts import Limits
from embedpool_shared.errors import QueueUnavailable, RateLimited
from embedpool_shared.names import Names
from embedpool_shared.redis import RedisRefused
from support.fake_line import FakeLine, Told
from support.virtual_time import in_virtual_time

KEY = (("key:k", Limits(rpm=9, tpm=900)),)
PARALLEL = (("key:k", Limits(parallel=9)),)
HEAD, STEP = 12, 3  # arguments of the account and of all its requests, then of each of them
SHARE = 5  # arguments of one that is given back


class Hall:
    """An admission whose Redis lets everybody in, unless the test says otherwise."""

    def __init__(self) -> None:
        self.line = FakeLine(self._answer)
        self.roles: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.verdicts: dict[str, tuple[int, int]] = {}  # by account: verdict and wait
        self.says: Callable[[Told], Any] | None = None
        self.admission = Admission(self._line, Names(), api_id="a1", spawn=self._spawn)

    def _line(self, role: str) -> Any:
        self.roles.append(role)
        return self.line

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(work))

    def _answer(self, told: Told) -> Any:
        if self.says is not None:
            return self.says(told)
        if told.what != "admit":
            return 0
        account = told.keys[0].partition("acct:")[2].rstrip("}")
        said = [0, 0, 0, 0]
        if verdict := self.verdicts.get(account):
            for place in range((len(told.arguments) - HEAD) // STEP):
                said += place, *verdict
        return said

    async def admit(self, limited: Any = KEY, *, tokens: int = 5) -> Admitted:
        return await self.admission.admit(limited, tokens=tokens, cost_pico_usd=7, hold_s=180.0)

    def ask(
        self, *, let_in: Callable[[Admitted], None], jobs: int = 1, hold_ms: int = 180_000
    ) -> asyncio.Future[Any]:
        waiter: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.admission.ask(Ask(KEY, jobs, 5, 7, hold_ms, waiter, let_in))
        return waiter

    def asked(self) -> list[list[Any]]:
        """The tokens of each request, by admit call."""
        return [told.arguments[HEAD::STEP] for told in self.line.told_of("admit")]

    def released(self) -> list[tuple[Any, list[Any]]]:
        """The number in flight of each release call, and which of their reservations go back."""
        calls = self.line.told_of("release")
        return [(told.arguments[1], told.arguments[4::SHARE]) for told in calls]


def in_a_hall(act: Callable[[Hall], Awaitable[None]]) -> Hall:
    """Run `act` in virtual time, and what the admission does until ten minutes later."""

    async def run() -> Hall:
        hall = Hall()
        try:
            await act(hall)
            await asyncio.sleep(600.0)
        finally:
            for task in hall.tasks:
                task.cancel()
            ended = await asyncio.gather(*hall.tasks, return_exceptions=True)
        assert not [it for it in ended if isinstance(it, Exception)]
        return hall

    return in_virtual_time(run())


def test_who_has_no_limits_costs_nothing() -> None:
    async def act(hall: Hall) -> None:
        admitted = await hall.admit(())
        assert (admitted.reserved, admitted.headers()) == ([], [])
        hall.admission.ended(admitted)
        hall.admission.give_back(admitted)

    hall = in_a_hall(act)

    assert hall.roles == []
    assert hall.tasks == []


def test_a_request_is_put_to_its_account_with_its_limits() -> None:
    async def act(hall: Hall) -> None:
        await hall.admit((("key:k", Limits(rpm=3, budget_pico_usd=20)),), tokens=12)

    hall = in_a_hall(act)

    names = Names().account("key:k")
    (told,) = hall.line.told
    assert hall.roles == ["admission"]
    assert told.keys == [names.account, names.window, names.held]
    reservation = told.arguments.pop(7)
    assert told.arguments == [3, "", "", 20, "a1", 0, LEASE_MS, 180_000, *[12, 7, 1] * 2]
    assert isinstance(reservation, str)


def test_all_requests_of_a_tick_share_a_call() -> None:
    async def act(hall: Hall) -> None:
        shares = [
            one.share for one in await asyncio.gather(*(hall.admit(tokens=n) for n in (4, 9)))
        ]
        (told,) = hall.line.told_of("admit")
        reservation = told.arguments[7]
        assert shares == [Share(reservation, 0, 1, 4, 7), Share(reservation, 1, 1, 9, 7)]
        assert told.arguments[9:] == [13, 14, 2, 4, 7, 1, 9, 7, 1]

    in_a_hall(act)


def test_no_two_calls_share_a_reservation() -> None:
    async def act(hall: Hall) -> None:
        assert (await hall.admit()).share.reservation != (await hall.admit()).share.reservation

    in_a_hall(act)


def test_a_request_of_several_jobs_reserves_for_all_of_them() -> None:
    admitted: list[Admitted] = []

    async def act(hall: Hall) -> None:
        for jobs in (3, 1):
            hall.ask(let_in=admitted.append, jobs=jobs)

    (told,) = in_a_hall(act).line.told_of("admit")

    assert told.arguments[9:] == [10, 14, 4, 5, 7, 3, 5, 7, 1]
    assert [one.share.jobs for one in admitted] == [3, 1]


def test_what_is_reserved_together_lapses_with_whoever_waits_longest() -> None:
    async def act(hall: Hall) -> None:
        for hold_ms in (130_000, 180_000, 121_000):
            hall.ask(let_in=lambda _: None, hold_ms=hold_ms)

    (told,) = in_a_hall(act).line.told_of("admit")
    assert told.arguments[8] == 180_000


def test_of_a_call_that_lets_in_some_each_hears_what_is_about_it() -> None:
    async def act(hall: Hall) -> None:
        hall.says = lambda _: [60_001, 60_001, 5, 100, 1, 2, 500]
        first, second, third = await asyncio.gather(
            *(hall.admit() for _ in range(3)), return_exceptions=True
        )
        assert isinstance(first, Admitted)
        assert isinstance(second, RateLimited)
        assert isinstance(third, Admitted)
        counted = [(one.standings[0].requests, one.standings[0].tokens) for one in (first, third)]
        assert counted == [(6, 105), (7, 110)]
        assert third.share.number == 2

    assert in_a_hall(act).released() == []


def test_more_than_a_call_may_hold_makes_the_next() -> None:
    async def act(hall: Hall) -> None:
        await asyncio.gather(*(hall.admit() for _ in range(WHOLE_REQUESTS + 9)))

    assert [len(asked) for asked in in_a_hall(act).asked()] == [WHOLE_REQUESTS, 9]


def test_of_a_crowd_half_goes_first() -> None:
    async def act(hall: Hall) -> None:
        await asyncio.gather(*(hall.admit() for _ in range(700)))

    assert [len(asked) for asked in in_a_hall(act).asked()] == [256, 222, 111, 55, 32, 24]


def test_of_limits_that_changed_within_a_tick_the_newest_hold() -> None:
    async def act(hall: Hall) -> None:
        before, after = (("key:k", Limits(rpm=3)),), (("key:k", Limits(rpm=5)),)
        await asyncio.gather(hall.admit(before), hall.admit(after))

    (told,) = in_a_hall(act).line.told_of("admit")
    assert told.arguments[0] == 5


def test_the_accounts_that_reserved_are_named() -> None:
    async def act(hall: Hall) -> None:
        admitted = await hall.admit((*KEY, ("team:t", Limits(parallel=1)), ("user:u", KEY[0][1])))
        assert admitted.reserved == ["key:k", "user:u"]
        hall.admission.ended(admitted)

    in_a_hall(act)


def test_an_end_says_nothing_where_parallel_requests_are_not_limited() -> None:
    async def act(hall: Hall) -> None:
        hall.admission.ended(await hall.admit())

    assert in_a_hall(act).released() == []


def test_an_end_is_told_once_where_they_are() -> None:
    async def act(hall: Hall) -> None:
        one, _ = await asyncio.gather(hall.admit(PARALLEL), hall.admit(PARALLEL))
        hall.admission.ended(one)
        hall.admission.ended(one)
        await asyncio.sleep(1.0)
        assert hall.released() == [(1, [])]

    in_a_hall(act)


def test_ends_that_meet_the_next_request_need_no_call_of_their_own() -> None:
    async def act(hall: Hall) -> None:
        hall.admission.ended(await hall.admit(PARALLEL))
        await hall.admit(PARALLEL)
        assert [told.arguments[5] for told in hall.line.told_of("admit")] == [0, 0]
        assert hall.released() == []

    in_a_hall(act)


def test_requests_in_flight_are_said_again_only_while_there_are_any() -> None:
    async def act(hall: Hall) -> None:
        admitted = await hall.admit(PARALLEL)
        await asyncio.sleep(2.5 * REARM_S)
        hall.admission.ended(admitted)

    hall = in_a_hall(act)

    assert hall.released() == [(1, []), (1, []), (0, [])]


def test_leases_are_armed_again_for_who_comes_after_a_pause() -> None:
    async def act(hall: Hall) -> None:
        hall.admission.ended(await hall.admit(PARALLEL))
        await asyncio.sleep(10 * REARM_S)
        admitted = await hall.admit(PARALLEL)
        await asyncio.sleep(1.5 * REARM_S)
        hall.admission.ended(admitted)

    assert in_a_hall(act).released() == [(0, []), (1, []), (0, [])]


def test_a_refusal_by_one_account_releases_the_others() -> None:
    async def act(hall: Hall) -> None:
        hall.verdicts["team:t"] = (1, 2_500)
        with pytest.raises(RateLimited, match="for team") as refused:
            await hall.admit((*KEY, ("team:t", Limits(rpm=1))))
        assert refused.value.retry_after_s == 2.5

    hall = in_a_hall(act)

    assert hall.released() == [("", [0])]
    assert "key:k" in hall.line.told_of("release")[0].keys[0]


def test_a_caller_who_leaves_while_redis_thinks_is_given_back() -> None:
    async def act(hall: Hall) -> None:
        hall.line.takes_s = 0.5
        asking = asyncio.ensure_future(hall.admit())
        await asyncio.sleep(0.1)
        asking.cancel()

    assert in_a_hall(act).released() == [("", [0])]


def test_a_caller_who_leaves_as_the_verdict_comes_is_given_back() -> None:
    async def act(hall: Hall) -> None:
        def leave_at_once(told: Told) -> Any:
            hall.says = None
            # Runs when the verdict is there, and before the caller has seen it.
            asyncio.get_running_loop().call_soon(asking.cancel)
            return [0, 0, 0, 0]

        hall.says = leave_at_once
        asking = asyncio.ensure_future(hall.admit())
        with pytest.raises(asyncio.CancelledError):
            await asking

    assert in_a_hall(act).released() == [("", [0])]


def test_whoever_goes_on_in_the_moment_of_the_verdict_gives_back_himself() -> None:
    gone_on: list[Admitted] = []

    async def act(hall: Hall) -> None:
        waiter = hall.ask(let_in=gone_on.append)
        await asyncio.sleep(1.0)
        waiter.cancel()

    assert in_a_hall(act).released() == []
    assert [admitted.reserved for admitted in gone_on] == [["key:k"]]


def test_nobody_goes_on_who_does_not_wait_any_more() -> None:
    gone_on: list[Admitted] = []

    async def act(hall: Hall) -> None:
        hall.line.takes_s = 0.5
        waiter = hall.ask(let_in=gone_on.append)
        await asyncio.sleep(0.1)
        waiter.cancel()

    assert in_a_hall(act).released() == [("", [0])]
    assert gone_on == []


def test_a_refusal_ends_the_wait() -> None:
    async def act(hall: Hall) -> None:
        hall.verdicts["key:k"] = (1, 1_000)
        with pytest.raises(RateLimited):
            await hall.ask(let_in=lambda _: None)

    in_a_hall(act)


def test_who_stumbles_on_the_way_in_is_given_back_and_the_others_are_in() -> None:
    async def act(hall: Hall) -> None:
        def stumble(_: Admitted) -> None:
            raise ZeroDivisionError

        first = hall.ask(let_in=stumble)
        await hall.admit()
        with pytest.raises(ZeroDivisionError):
            await first

    assert in_a_hall(act).released() == [("", [0])]


def test_a_verdict_that_was_heard_stands_even_if_its_line_breaks_at_once() -> None:
    async def act(hall: Hall) -> None:
        hall.line.breaks_after_hearing = 1
        admitted = await hall.admit()
        assert admitted.reserved == ["key:k"]

    assert in_a_hall(act).released() == []


def test_a_caller_who_leaves_before_anything_was_sent_is_not_asked_for() -> None:
    async def act(hall: Hall) -> None:
        asking = asyncio.ensure_future(hall.admit())
        await asyncio.sleep(0)
        asking.cancel()

    assert in_a_hall(act).line.told == []


def test_whoever_asks_while_redis_is_silent_is_told_within_a_second() -> None:
    async def act(hall: Hall) -> None:
        hall.line.takes_s = 100.0
        loop = asyncio.get_running_loop()

        async def ask_at(at: float) -> float:
            await asyncio.sleep(at)
            asked_at = loop.time()
            with pytest.raises(QueueUnavailable) as told:
                await hall.admit()
            assert told.value.code == "queue_unavailable"
            assert told.value.retry_after_s == 1.0
            return loop.time() - asked_at

        waits = await asyncio.gather(*(ask_at(0.05 * n) for n in range(60)))
        assert max(waits) < 1.0

    in_a_hall(act)


def test_what_a_lost_reply_may_have_granted_is_given_back_once_redis_answers() -> None:
    async def act(hall: Hall) -> None:
        hall.line.loses_replies = 1
        with pytest.raises(QueueUnavailable):
            await hall.admit((("key:k", Limits(rpm=9, parallel=9)),))
        hall.line.is_away = True
        await asyncio.sleep(5.0)
        hall.line.is_away = False

    assert in_a_hall(act).released() == [(0, [""])]


def test_what_may_have_been_granted_is_given_back_before_the_next_request_is_asked_for() -> None:
    async def act(hall: Hall) -> None:
        hall.line.loses_replies = 1
        with pytest.raises(QueueUnavailable):
            await hall.admit()
        await hall.admit()

    told = [told.what for told in in_a_hall(act).line.told]

    assert told == ["admit", "release", "admit"]


def test_a_release_whose_reply_was_lost_is_repeated() -> None:
    async def act(hall: Hall) -> None:
        admitted = await hall.admit()
        hall.line.loses_replies = 1
        hall.admission.give_back(admitted)

    assert in_a_hall(act).released() == [("", [0]), ("", [0])]


def test_a_release_that_redis_refuses_is_left_to_lapse() -> None:
    async def act(hall: Hall) -> None:
        admitted = await hall.admit()
        hall.says = lambda _: RedisRefused("no permission")
        hall.admission.give_back(admitted)

    assert in_a_hall(act).released() == [("", [0])]


def test_a_call_that_redis_refuses_fails_its_requests_only() -> None:
    async def act(hall: Hall) -> None:
        team = (("team:t", Limits(rpm=1)),)
        hall.says = lambda told: (
            RedisRefused("out of memory") if "team:t" in told.keys[0] else [0, 0, 0, 0]
        )
        alone, shared = await asyncio.gather(
            hall.admit(KEY), hall.admit(team), return_exceptions=True
        )
        assert isinstance(alone, Admitted)
        assert isinstance(shared, QueueUnavailable)
        assert not isinstance(shared, RedisRefused)

    in_a_hall(act)
