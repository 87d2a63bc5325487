"""The scripts of an account against the rules in plain Python, over every interleaving found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from typing_extensions import override

from embedpool_shared.accounts import Limits
from integration.account_by_hand import Account, Settled, Verdict, Wish
from support.valkey import RedisServer

if TYPE_CHECKING:
    import redis

MINUTE_MS: Final = 60_001
LEASE_MS: Final = 15_000
PERIOD_S: Final = 100
APIS: Final = ("a1", "a2", "a3")


@dataclass
class Promise:
    """A reservation as the rules see it: what of it is neither settled nor given back."""

    second: int
    lapses_at: int
    jobs: int = 0
    tokens: int = 0
    cost: int = 0
    requests: set[int] = field(default_factory=set)

    def take(self, jobs: int, tokens: int, cost: int) -> None:
        self.jobs -= jobs
        self.tokens -= tokens
        self.cost -= cost


@dataclass
class Open:
    """A request that was let in, and what of it is not settled yet."""

    reservation: str
    number: int
    jobs: int
    tokens: int
    cost: int
    is_untouched: bool = True

    def share(self) -> tuple[Any, ...]:
        return self.reservation, self.number, self.jobs, self.tokens, self.cost


@dataclass
class Rules:
    """What an account must do, without a thought of how."""

    limits: Limits
    now: int
    reset_at: int
    until: dict[int, int] = field(default_factory=dict)  # second → ms it counts until
    requests: Counter[int] = field(default_factory=Counter)  # by second
    tokens: Counter[int] = field(default_factory=Counter)
    promises: dict[str, Promise] = field(default_factory=dict)
    leases: dict[str, tuple[int, int]] = field(default_factory=dict)
    cost: int = 0
    period_cost: int = 0

    def look(self) -> None:
        for second in [s for s, until in self.until.items() if until <= self.now]:
            del self.until[second], self.requests[second], self.tokens[second]
        for name in [n for n, it in self.promises.items() if it.lapses_at <= self.now]:
            del self.promises[name]
        self.leases = {a: it for a, it in self.leases.items() if it[1] > self.now}

    def begin_period(self) -> None:
        if self.now // 1_000 >= self.reset_at:
            self.period_cost = 0
            while self.now // 1_000 >= self.reset_at:
                self.reset_at += PERIOD_S

    @property
    def reserved(self) -> int:
        return sum(it.cost for it in self.promises.values())

    def admit(
        self, wishes: list[Wish], api: str, in_flight: int, reservation: str, hold_ms: int
    ) -> list[tuple[int, int]]:
        self.look()
        if self.limits.budget_pico_usd is not None:
            self.begin_period()
        self.leases.pop(api, None)
        said = []
        promise = Promise(self.now // 1_000, self.now + hold_ms)
        for number, wish in enumerate(wishes):
            verdict, wait = self.verdict(wish, promise, in_flight)
            said.append((verdict, wait))
            if verdict == 0:
                in_flight += 1
                self.count_in(wish, number, promise)
        limits = self.limits
        if promise.requests and (limits.rpm, limits.tpm, limits.budget_pico_usd) != (None,) * 3:
            self.promises[reservation] = promise
        if self.limits.parallel is not None and in_flight:
            self.leases[api] = (in_flight, self.now + LEASE_MS)
        return said

    def verdict(self, wish: Wish, promise: Promise, in_flight: int) -> tuple[int, int]:
        limits, others = self.limits, sum(count for count, _ in self.leases.values())
        spent = self.period_cost + self.reserved + promise.cost
        rows = [
            (1, limits.rpm, sum(self.requests.values()), 1, self.requests),
            (2, limits.tpm, sum(self.tokens.values()), wish.tokens, self.tokens),
            (3, limits.parallel, others + in_flight, 1, None),
            (4, limits.budget_pico_usd, spent, wish.cost, None),
        ]
        for number, limit, _, need, _ in rows:
            if limit is not None and need > limit:
                return -number, 0
        reached = [
            (number, self.wait(number, by_second, used + need - limit))
            for number, limit, used, need, by_second in rows
            if limit is not None and used + need > limit
        ]
        if reached and reached[-1][0] == 4:
            return reached[-1]
        return max(reached, key=lambda it: (it[1], -it[0]), default=(0, 0))

    def wait(self, number: int, by_second: Counter[int] | None, excess: int) -> int:
        if number == 4:
            return self.reset_at * 1_000 - self.now
        if by_second is None:
            return 0
        for second, until in sorted(self.until.items()):
            excess -= by_second[second]
            if excess <= 0:
                return until - self.now
        raise AssertionError("whatever fits an empty minute fits in time")

    def count_in(self, wish: Wish, number: int, promise: Promise) -> None:
        limits, second = self.limits, promise.second
        promise.take(-wish.jobs, -wish.tokens, -wish.cost)
        promise.requests.add(number)
        if limits.rpm is not None or limits.tpm is not None:
            self.until[second] = self.now + MINUTE_MS
            self.requests[second] += 1
            self.tokens[second] += wish.tokens

    def settle(self, one: Settled, spent: int) -> None:
        self.begin_period()
        self.cost += spent
        self.period_cost += spent
        promise = self.promises.get(one.reservation)
        if promise is not None:
            promise.take(one.ended, one.tokens, one.cost)
            self.correct(promise, 0, one.used - one.tokens)
            self.forget_if_over(one.reservation)

    def release(self, one: Open) -> None:
        promise = self.promises.get(one.reservation)
        if promise is not None and one.number in promise.requests:
            promise.requests.remove(one.number)
            promise.take(one.jobs, one.tokens, one.cost)
            self.correct(promise, -1, -one.tokens)
            self.forget_if_over(one.reservation)

    def release_all(self, reservation: str) -> None:
        promise = self.promises.pop(reservation, None)
        if promise is not None:
            self.correct(promise, -len(promise.requests), -promise.tokens)

    def correct(self, promise: Promise, requests: int, tokens: int) -> None:
        second = promise.second
        if second in self.until:
            self.requests[second] += requests
            self.tokens[second] = max(0, self.tokens[second] + tokens)

    def forget_if_over(self, reservation: str) -> None:
        if self.promises[reservation].jobs <= 0:
            del self.promises[reservation]


LIMITS: Final = st.builds(
    Limits,
    rpm=st.none() | st.integers(1, 8),
    tpm=st.none() | st.integers(1, 40),
    parallel=st.none() | st.integers(1, 4),
    budget_pico_usd=st.none() | st.integers(1, 60),
)
WISHES: Final = st.lists(
    st.builds(
        Wish,
        tokens=st.integers(0, 15) | st.just(41),
        cost=st.integers(0, 12),
        jobs=st.integers(1, 3),
    ),
    min_size=1,
    max_size=4,
)
PAUSES: Final = st.integers(0, 1_500) | st.sampled_from([15_000, 30_000, 59_000, 60_001, 90_000])


class Interleavings(RuleBasedStateMachine):
    """Some api processes and a roll-up at work on one account."""

    client: redis.Redis

    @initialize(limits=LIMITS, starts_at=st.integers(0, 999))
    def begin(self, limits: Limits, starts_at: int) -> None:
        self.client.flushall()
        self.account = Account(self.client, now_ms=1_800_000_000_000 + starts_at)
        self.ideal = Rules(limits, self.account.now_ms, 1_800_000_000 + PERIOD_S)
        self.client.hset(
            self.account.names.account,
            mapping={"every": PERIOD_S, "reset_at": self.ideal.reset_at},
        )
        self.in_flight = dict.fromkeys(APIS, 0)
        self.open: dict[str, Open] = {}
        self.times: dict[str, int] = {}
        self.count = 0

    @rule(ms=PAUSES)
    def wait(self, ms: int) -> None:
        self.account.now_ms += ms
        self.ideal.now += ms

    @rule(api=st.sampled_from(APIS), wishes=WISHES, hold_ms=st.sampled_from([40_000, 180_000]))
    def admit(self, api: str, wishes: list[Wish], hold_ms: int) -> None:
        self.count += 1
        reservation, in_flight = f"r{self.count}", self.in_flight[api]

        expected = self.ideal.admit(wishes, api, in_flight, reservation, hold_ms)
        said = self.account.admit(
            self.ideal.limits,
            *wishes,
            reservation=reservation,
            hold_ms=hold_ms,
            api=api,
            in_flight=in_flight,
        )

        assert [(one.verdict, one.wait_ms) for one in said] == expected
        for number, (wish, one) in enumerate(zip(wishes, said, strict=True)):
            if one.verdict == 0:
                self.in_flight[api] += 1
                self.open[f"{reservation}:{number}"] = Open(
                    reservation, number, wish.jobs, wish.tokens, wish.cost
                )
                self.times[f"{reservation}:{number}"] = self.account.now_ms
        self.check_sums(said)

    def check_sums(self, said: list[Verdict]) -> None:
        if self.ideal.limits.rpm is not None or self.ideal.limits.tpm is not None:
            assert said[-1].requests == sum(self.ideal.requests.values())
            assert said[-1].tokens == sum(self.ideal.tokens.values())

    @rule(pause=st.integers(1_000, 30_000))
    def spread_requests_over_a_minute(self, pause: int) -> None:
        for _ in range(3):
            self.admit("a1", [Wish(1, 1)], 180_000)
            self.wait(pause)
        self.wait(60_000 - 2 * pause + 1)
        self.admit("a2", [Wish(41, 1)], 180_000)
        self.admit("a3", [Wish(1, 1)], 180_000)

    @precondition(lambda self: self.open)
    @rule(draw=st.data(), used=st.integers(0, 20), spent=st.integers(0, 12))
    def settle(self, draw: Any, used: int, spent: int) -> None:
        name = draw.draw(st.sampled_from(sorted(self.open)))
        request = self.open[name]
        ended = draw.draw(st.integers(1, request.jobs))
        is_last = ended == request.jobs
        tokens = request.tokens if is_last else draw.draw(st.integers(0, request.tokens))
        cost = request.cost if is_last else draw.draw(st.integers(0, request.cost))
        is_known = request.reservation in self.ideal.promises
        spent = min(spent, cost if is_known else 0)
        one = Settled(request.reservation, ended, tokens, cost, used)
        self.ideal.look()
        self.ideal.settle(one, spent)

        assert self.account.apply(one, cost=spent) == 1

        request.is_untouched = False
        request.jobs, request.tokens, request.cost = (
            request.jobs - ended, request.tokens - tokens, request.cost - cost,
        )  # fmt: skip
        if is_last:
            del self.open[name]

    @precondition(lambda self: self.untouched())
    @rule(draw=st.data(), times=st.integers(1, 2))
    def release(self, draw: Any, times: int) -> None:
        name = draw.draw(st.sampled_from(self.untouched()))
        request = self.open.pop(name)
        is_known = request.reservation in self.ideal.promises
        for _ in range(times):
            self.account.release(request.share())
        self.ideal.release(request)
        if is_known:
            self.times.pop(name)

    @precondition(lambda self: self.untouched())
    @rule(draw=st.data(), times=st.integers(1, 2))
    def release_all(self, draw: Any, times: int) -> None:
        """Take back what a lost reply may have granted: nobody knew of any of it."""
        names = self.untouched()
        reservation = draw.draw(st.sampled_from(sorted({name.split(":")[0] for name in names})))
        mates = [name for name in self.times if name.split(":")[0] == reservation]
        if any(name not in names for name in mates):
            return
        is_known = reservation in self.ideal.promises
        for _ in range(times):
            self.account.release((reservation, "", 0, 0, 0))
        self.ideal.release_all(reservation)
        for name in mates:
            del self.open[name]
            if is_known:
                self.times.pop(name)

    def untouched(self) -> list[str]:
        return sorted(name for name, one in self.open.items() if one.is_untouched)

    @rule(api=st.sampled_from(APIS), count=st.integers(0, 4))
    def end(self, api: str, count: int) -> None:
        self.in_flight[api] = max(0, self.in_flight[api] - count)
        self.account.release(api=api, in_flight=self.in_flight[api])
        self.ideal.leases.pop(api, None)
        if self.in_flight[api]:
            self.ideal.leases[api] = (self.in_flight[api], self.account.now_ms + LEASE_MS)

    @invariant()
    def no_sliding_minute_holds_more_than_the_limit(self) -> None:
        rpm = self.ideal.limits.rpm
        times = sorted(self.times.values())
        if rpm is not None and len(times) > rpm:
            assert all(
                later - first >= 60_000 for first, later in zip(times, times[rpm:], strict=False)
            )

    @invariant()
    def no_budget_is_exceeded(self) -> None:
        found = self.account.hash()
        budget = self.ideal.limits.budget_pico_usd
        assert int(found.get("cost", 0)) == self.ideal.cost
        assert int(found.get("period_cost", 0)) == self.ideal.period_cost
        if budget is not None:
            assert self.ideal.period_cost + self.account.reserved_cost <= budget

    @override
    def teardown(self) -> None:
        if not hasattr(self, "account"):
            return
        self.account.now_ms += 200_000
        for api in APIS:
            self.account.release(api=api, in_flight=0)
        self.account.admit(Limits(rpm=1), Wish(), Wish(), reservation="last")
        self.account.release(("last", 0, 1, 1, 0), ("never", 0, 1, 1, 0))
        self.account.apply()
        assert not self.account.leftovers()


def test_an_account_keeps_its_rules_in_whatever_order_things_happen(valkey: RedisServer) -> None:
    with valkey.client() as client:
        machine = type("Machine", (Interleavings,), {"client": client})

        run_state_machine_as_test(
            machine, settings=settings(max_examples=100, stateful_step_count=40)
        )
