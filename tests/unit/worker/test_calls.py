"""One batch, several tries: which key, how soon, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from typing_extensions import override

from embedpool_shared.errors import (
    CallTooLarge,
    EmbedPoolError,
    KeyRejected,
    ProviderError,
    ProviderThrottled,
    ProviderUnavailable,
    WrongAnswer,
)
from embedpool_shared.jobs import Input, LaneClass
from embedpool_worker.batch import Batch
from embedpool_worker.calls import Calls
from embedpool_worker.caps import Caps
from embedpool_worker.deployments import Deployment
from embedpool_worker.held import items_of
from embedpool_worker.key_policy import KeyPolicy
from embedpool_worker.permits import Permits
from embedpool_worker.providers.port import ProviderAnswer, ProviderCall
from support.held import pack_of
from support.lane_bench import FakeProvider, deployment
from support.virtual_time import in_virtual_time


async def _count_in(function: Callable[..., object], *arguments: object) -> object:
    return function(*arguments)


class Desk:
    """Calls of one lane against a fake provider."""

    def __init__(
        self, place: Deployment, provider: FakeProvider, policy: KeyPolicy | None = None
    ) -> None:
        self.place, self.provider = place, provider
        self.permits = Permits(slots_per_key=8, policy=policy)
        self.calls = Calls(self.permits, lambda _: provider, count_in=_count_in)

    def batch(self, *inputs: Input, budget_s: float = 60.0) -> Batch:
        pack = pack_of(
            list(inputs or ("x",)), at=asyncio.get_running_loop().time(), budget_s=budget_s
        )
        items = [item for job in pack.open.values() for item in items_of(job)]
        return Batch(items, LaneClass.INTERACTIVE, [self.place])

    async def make(self, *, patience_s: float = 60.0) -> str | None:
        """Make one call; returns the secret that was answered."""
        await self.calls.make(self.batch(budget_s=patience_s), None)
        return self.provider.calls[-1].call.secret

    @property
    def tried(self) -> list[str | None]:
        return [made.call.secret for made in self.provider.calls]


def failing(key: str, error: ProviderError) -> Callable[[ProviderCall], BaseException | None]:
    return lambda call: error if call.secret == f"secret-{key}" else None


@pytest.mark.parametrize(
    "error",
    [ProviderThrottled("429", retry_after_s=3.0), KeyRejected("401"), ProviderUnavailable("500")],
    ids=lambda error: type(error).__name__,
)
def test_a_failing_keys_work_goes_on_at_once_and_the_next_request_does_not_try_it(
    error: ProviderError,
) -> None:
    async def test() -> None:
        desk = Desk(deployment("a", "b"), FakeProvider(objection=failing("a", error)))

        answered = [await desk.make() for _ in range(4)]

        assert desk.tried == ["secret-a", *["secret-b"] * 4]
        assert answered == ["secret-b"] * 4
        assert desk.provider.times[1] == pytest.approx(0.05)

    in_virtual_time(test())


def test_a_key_that_hangs_is_left_for_another_one() -> None:
    class Hanging(FakeProvider):
        @override
        async def embed(self, call: ProviderCall) -> ProviderAnswer:
            self.takes_s = 1_000.0 if call.secret == "secret-a" else 0.05
            return await super().embed(call)

    async def test() -> None:
        desk = Desk(deployment("a", "b", timeout_s=1.0), Hanging())

        await desk.make()
        await desk.make()

        assert desk.tried == ["secret-a", "secret-b", "secret-b"]
        assert asyncio.get_running_loop().time() == pytest.approx(1.1)

    in_virtual_time(test())


def test_callers_in_a_hurry_do_not_bring_a_key_to_rest() -> None:
    async def test() -> None:
        desk = Desk(deployment("a"), FakeProvider(takes_s=0.5))
        await desk.make()
        for _ in range(10):
            with pytest.raises(ProviderUnavailable, match=r"no answer within 0\.2 s"):
                await desk.make(patience_s=0.2)

        assert await desk.make() == "secret-a"

    in_virtual_time(test())


@pytest.mark.parametrize(
    ("usual_s", "patience_s", "fails"),
    [
        pytest.param(0.5, 1.9, 0, id="less than four times what is usual"),
        pytest.param(0.5, 2.1, 1, id="more"),
        pytest.param(0.01, 0.9, 0, id="too little to tell"),
        pytest.param(0.01, 1.1, 1, id="enough to tell"),
        pytest.param(None, 4.9, 0, id="never seen"),
        pytest.param(None, 5.1, 1, id="never seen, for long"),
        pytest.param(9.0, 20.1, 1, id="as long as the deployment may take"),
    ],
)
def test_silence_says_something_of_a_key_once_it_is_unusual(
    usual_s: float | None, patience_s: float, fails: int
) -> None:
    async def test() -> None:
        provider = FakeProvider(takes_s=usual_s or 0.0)
        desk = Desk(deployment("a", timeout_s=20.0), provider)
        if usual_s is not None:
            await desk.make()
        provider.takes_s = 1_000.0
        with pytest.raises(EmbedPoolError):
            await desk.make(patience_s=patience_s)

        (health,) = desk.permits.keys_of([desk.place])
        assert health.breaker.fails == fails

    in_virtual_time(test())


def test_a_throttled_key_comes_back_at_its_retry_after_and_not_before() -> None:
    async def test() -> None:
        provider = FakeProvider(takes_s=0.1)
        provider.objection = lambda _: (
            ProviderThrottled("", retry_after_s=3.0) if len(provider.calls) == 1 else None
        )
        desk = Desk(deployment("a"), provider)

        await desk.make()

        assert provider.times[1] >= 3.1
        assert provider.times[1] == pytest.approx(3.1, abs=1e-3)

    in_virtual_time(test())


def test_a_batch_that_got_a_wrong_answer_meets_another_key_when_it_is_called_again() -> None:
    async def test() -> None:
        provider = FakeProvider(objection=failing("a", WrongAnswer("no vectors")))
        desk = Desk(deployment("a", "b"), provider)
        batch = desk.batch()
        with pytest.raises(WrongAnswer):
            await desk.calls.make(batch, None)

        await desk.calls.make(batch, None)

        assert desk.tried == ["secret-a", "secret-b"]

    in_virtual_time(test())


def test_a_permit_whose_key_came_to_rest_meanwhile_is_replaced() -> None:
    async def test() -> None:
        desk = Desk(deployment("a", "b"), FakeProvider())
        first, second = desk.permits.keys_of([desk.place])
        batch = desk.batch()
        permit = await desk.permits.acquire(
            [desk.place], LaneClass.INTERACTIVE, until_at=batch.deadline_at
        )
        permit.health.cool(30.0)

        await desk.calls.make(batch, permit)

        assert permit.health is first
        assert desk.tried == ["secret-b"]
        assert (first.in_flight, second.in_flight) == (0, 0)

    in_virtual_time(test())


@pytest.mark.parametrize(
    ("inputs", "caps"),
    [
        (["a", "b", "c"], Caps(max_items=2, max_item_tokens=100)),
        (["a" * 30, "b"], Caps(max_items=9, max_item_tokens=9)),
        (["a" * 30, "b" * 30], Caps(max_items=9, max_item_tokens=100, max_call_tokens=19)),
        (["a" * 30, "b" * 30], Caps(max_items=9, max_item_tokens=100, max_call_bytes=59)),
        ([[1, 2], [3, 4]], Caps(max_items=9, max_item_tokens=100, max_call_tokens=3)),
    ],
    ids=["items", "one item's tokens", "tokens", "bytes", "token arrays"],
)
def test_a_call_that_goes_on_elsewhere_is_never_larger_than_is_taken_there(
    inputs: list[Input], caps: Caps
) -> None:
    async def test() -> None:
        wide, narrow = deployment("a"), deployment("b", id_="narrow", caps=caps)
        desk = Desk(wide, FakeProvider(objection=failing("a", ProviderThrottled("429"))))
        batch, smaller = desk.batch(*inputs), desk.batch(inputs[0])
        batch.deployments = smaller.deployments = [wide, narrow]

        with pytest.raises(CallTooLarge):
            await desk.calls.make(batch, None)

        assert desk.tried == ["secret-a"]
        assert batch.asked is narrow
        made = await desk.calls.make(smaller, None)
        assert made.deployment is narrow
        (_, key) = desk.permits.keys_of([wide, narrow])
        assert key.in_flight == 0

    in_virtual_time(test())


def test_of_two_places_the_one_with_vectors_of_another_length_is_passed_over() -> None:
    class OfTwoLengths(FakeProvider):
        @override
        async def embed(self, call: ProviderCall) -> ProviderAnswer:
            self.dims = 2 if call.secret == "secret-a" else 3
            return await super().embed(call)

    async def test() -> None:
        first, other = deployment("a"), deployment("b", id_="other")
        desk = Desk(first, OfTwoLengths())
        batches = [desk.batch() for _ in range(3)]
        for batch in batches:
            batch.deployments = [first, other]

        made = [await desk.calls.make(batch, None) for batch in batches]

        assert {(one.deployment.id, one.answer and one.answer.dims) for one in made} == {("d", 2)}
        assert desk.tried == ["secret-a", "secret-b", "secret-a", "secret-a"]

    in_virtual_time(test())


def test_when_everything_fails_second_tries_stay_within_the_budget() -> None:
    async def test() -> None:
        provider = FakeProvider(takes_s=0.01, objection=lambda _: ProviderUnavailable("500"))
        never = KeyPolicy(allowed_fails=1_000_000)  # no breaker helps
        desk = Desk(deployment("a", "b"), provider, never)
        first = 0

        async def one() -> None:
            with pytest.raises(Exception, match=r"500|No available"):
                await desk.make()

        async with asyncio.TaskGroup() as tasks:
            for _ in range(200):
                tasks.create_task(one())
                first += 1
                await asyncio.sleep(0.01)

        took_s = asyncio.get_running_loop().time()
        assert len(provider.calls) <= 1.2 * first + 10 * took_s + 10

    in_virtual_time(test())
