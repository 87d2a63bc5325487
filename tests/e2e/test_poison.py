"""One input a provider cannot bear, among many good ones: only its own caller hears of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from e2e.asking import Answer, all_at_once, asked, right
from e2e.keys import short_entry
from e2e.pools import Pool, serving
from e2e.store import store_at
from support.fake_provider import FakeProvider
from support.faults import Behaviour, Distortion

DIMS: Final = 24
CROWD: Final = 64
MOST_EXTRA_CALLS: Final = 13
"""Two for each of six halvings, and one more try where the answer itself is wrong."""
POISON: Final = "poison"
REFUSED: Final = "This text is not allowed."


@pytest.fixture(scope="module")
def lasting_fake() -> Iterator[FakeProvider]:
    with FakeProvider.in_thread(dims=DIMS, latency_s=0.05) as provider:
        yield provider


@pytest.fixture(scope="module")
def pool(lasting_fake: FakeProvider) -> Iterator[Pool]:
    with serving(config={"model_list": [short_entry("m", lasting_fake)]}) as running:
        yield running


def extra_calls(fake: FakeProvider) -> int:
    """How many calls held only inputs that had been sent before."""
    sent: set[str] = set()
    extra = 0
    for call in fake.calls:
        inputs = set(map(str, call.items))
        extra += inputs <= sent
        sent |= inputs
    return extra


async def crowd_with_poison(pool: Pool, given: str | list[str]) -> tuple[list[Answer], Answer]:
    """Ask from a crowd, one of whom gives this; returns the others' answers and theirs."""
    asks: list[str | list[str]] = [f"harmless {number}" for number in range(CROWD - 1)]
    asks.insert(CROWD // 3, given)
    answers = await all_at_once(pool.url, [asked("m", one) for one in asks])
    theirs = answers.pop(CROWD // 3)
    return answers, theirs


def assert_unharmed(pool: Pool, answers: list[Answer]) -> None:
    for number, answer in enumerate(answers):
        assert answer.status == 200
        assert answer.vectors == right([f"harmless {number}"], dims=DIMS)
    with store_at(pool.store_url) as store:
        store.wait_until_quiet()


@pytest.mark.parametrize(
    ("given", "param"),
    [(POISON, "input"), (["fine", "also fine", POISON, "fine too"], "input[2]")],
    ids=["alone in its request", "among others of its request"],
)
async def test_an_input_that_is_refused_fails_its_own_request_and_no_other(
    pool: Pool, fake: FakeProvider, given: str | list[str], param: str
) -> None:
    fake.behave(Behaviour(containing=POISON, status=400, message=REFUSED))

    answers, poisoned = await crowd_with_poison(pool, given)

    assert poisoned.status == 400
    error = poisoned.error
    assert (error["type"], error["message"]) == ("invalid_request_error", f"[openai] {REFUSED}")
    assert error["param"] in {param, f"{param}[0]"}
    assert_unharmed(pool, answers)
    assert extra_calls(fake) <= MOST_EXTRA_CALLS


async def test_an_input_whose_vector_is_no_number_fails_its_own_request_and_no_other(
    pool: Pool, fake: FakeProvider
) -> None:
    fake.behave(Behaviour(containing=POISON, distortion=Distortion.NAN))

    answers, poisoned = await crowd_with_poison(pool, ["fine", POISON])

    assert (poisoned.status, poisoned.error["type"]) == (502, "upstream_error")
    assert_unharmed(pool, answers)
    assert extra_calls(fake) <= MOST_EXTRA_CALLS


async def test_a_field_the_provider_does_not_want_is_named_and_nothing_is_bisected(
    pool: Pool, fake: FakeProvider
) -> None:
    fake.behave(Behaviour(refuses_dimensions=True))

    asks = [asked("m", f"small {number}", dimensions=8) for number in range(16)]
    answers = await all_at_once(pool.url, asks)

    assert {(answer.status, answer.error["param"]) for answer in answers} == {(400, "dimensions")}
    assert extra_calls(fake) == 0
