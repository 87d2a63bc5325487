from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_cli.embed.answers import Refusal, Verdict
from embedpool_cli.embed.asking import MAX_HOPELESS_REJECTS, Asking, Request, Stopped
from embedpool_cli.embed.budget import Budget
from embedpool_cli.embed.gate import Gate
from embedpool_cli.embed.pace import Pace
from embedpool_cli.embed.rows import Fault, Item, Vector
from embedpool_cli.embed.trials import Trial
from support.virtual_time import in_virtual_time
from unit.cli.embed.fake_asks import FakeAsks, refusing, vector_of

Outcomes = dict[str, Vector | Fault]


def embedded(
    pool: FakeAsks, *requests: Sequence[str], patience_s: float = 600.0, most: int = 8,
    dtype: str = "float32",
) -> tuple[Outcomes, float]:  # fmt: skip
    """Send requests side by side; tell how each text ended and how long it took."""
    items = [[Item(text) for text in texts] for texts in requests]
    times_heard = 0

    def ended() -> None:
        nonlocal times_heard
        times_heard += 1

    async def main() -> float:
        gate, budget = Gate(Pace(most)), Budget(None, None)
        asking = Asking(pool, gate, budget, ended, dtype=dtype, patience_s=patience_s)
        async with asyncio.TaskGroup() as tasks:
            for turn, some in enumerate(items):
                tasks.create_task(asking.embed(Request(turn, some, Trial(len(some)))))
        assert gate.under_way == 0
        return asyncio.get_running_loop().time()

    took_s = in_virtual_time(main())
    assert times_heard >= len(requests)
    return {item.text: outcome_of(item) for some in items for item in some}, took_s


def outcome_of(item: Item) -> Vector | Fault:
    """The one end an item came to."""
    (outcome,) = (end for end in (item.vector, item.fault) if end is not None)
    return outcome


def stopped(pool: FakeAsks, *requests: Sequence[str], patience_s: float = 600.0) -> str:
    """Tell why the run was stopped."""
    with pytest.raises(ExceptionGroup) as caught:
        embedded(pool, *requests, patience_s=patience_s)
    stop: Exception = caught.value
    while isinstance(stop, ExceptionGroup):
        stop = stop.exceptions[0]
    assert isinstance(stop, Stopped)
    return stop.message


@given(st.integers(1, 64), st.sets(st.integers(0, 63), max_size=5))
def test_only_the_unwanted_texts_fail_and_everybody_else_is_answered(
    count: int, places: set[int]
) -> None:
    texts = [f"t{at}" for at in range(count)]
    bad = {f"t{at}" for at in places if at < count}
    no = Refusal(Verdict.SPLIT, "not this one", 400)
    pool = FakeAsks(lambda asked: no if bad & set(asked) else None)

    outcomes, _ = embedded(pool, texts)

    assert {text for text, end in outcomes.items() if isinstance(end, Fault)} == bad
    assert all(outcomes[text] == vector_of(text) for text in texts if text not in bad)
    assert len(pool.asked) <= 1 + 2 * 7 * max(1, len(bad))


def test_the_text_a_refusal_names_costs_two_more_requests() -> None:
    no = Refusal(Verdict.SPLIT, "too long", 400, suspect=40)
    pool = FakeAsks(lambda asked: no if "t40" in asked else None)

    outcomes, _ = embedded(pool, [f"t{at}" for at in range(64)])

    assert isinstance(outcomes["t40"], Fault)
    assert len(pool.asked) == 3


def test_the_pools_word_on_waiting_is_kept() -> None:
    answers = iter([Refusal(Verdict.WAIT, "busy", 429, retry_after_s=30.0)])
    pool = FakeAsks(lambda _: next(answers, None))

    outcomes, took_s = embedded(pool, ["a"])

    assert outcomes == {"a": vector_of("a")}
    assert 30.0 <= took_s <= 34.0


def test_patience_ends_and_says_what_was_wrong() -> None:
    pool = FakeAsks(lambda _: Refusal(Verdict.WAIT, "the queue is away", 503))

    said = stopped(pool, ["a"], patience_s=60.0)

    assert "the queue is away" in said
    assert len(pool.asked) < 20


def test_what_is_wrong_with_every_request_ends_the_run_at_once() -> None:
    pool = FakeAsks(lambda _: Refusal(Verdict.STOP, "no such key", 401))

    assert stopped(pool, ["a"]) == "no such key"
    assert len(pool.asked) == 1


def test_a_text_that_breaks_the_provider_is_found_while_others_fare_well() -> None:
    pool = FakeAsks(refusing("poison", Verdict.DOUBT))

    outcomes, _ = embedded(pool, ["a", "b", "poison", "c"], ["d"], ["e", "f"])

    assert {text for text, end in outcomes.items() if isinstance(end, Fault)} == {"poison"}
    assert len(outcomes) == 7


def test_an_outage_rejects_nobody() -> None:
    answers = iter([Refusal(Verdict.DOUBT, "bad gateway", 502)] * 40)
    pool = FakeAsks(lambda _: next(answers, None))

    outcomes, _ = embedded(pool, *[[f"t{at}"] for at in range(8)])

    assert not any(isinstance(end, Fault) for end in outcomes.values())


def test_a_run_in_which_every_text_is_refused_ends_soon() -> None:
    pool = FakeAsks(lambda _: Refusal(Verdict.SPLIT, "unknown parameter", 400))
    requests = [[f"t{n}-{at}" for at in range(64)] for n in range(8)]

    said = stopped(pool, *requests)

    assert f"not one of {MAX_HOPELESS_REJECTS} texts" in said
    assert "unknown parameter" in said


def test_a_busy_pool_gets_fewer_requests_at_a_time() -> None:
    refusals = iter([Refusal(Verdict.WAIT, "busy", 429, retry_after_s=1.0)] * 16)
    pool = FakeAsks(lambda _: next(refusals, None))

    embedded(pool, *[[f"t{at}"] for at in range(16)], most=16)
    first_round, pool.most_at_a_time = pool.most_at_a_time, 0

    assert first_round == 16
    assert len(pool.asked) == 32


def test_numbers_too_large_for_half_precision_fail_their_row() -> None:
    pool = FakeAsks(factor=1_000.0)

    outcomes, _ = embedded(pool, ["a", "\x01"], dtype="float16")

    assert isinstance(outcomes["a"], Fault)
    assert outcomes["\x01"] == vector_of("\x01", 1_000.0)


def test_vectors_that_change_their_length_end_the_run() -> None:
    async def main() -> None:
        asking = Asking(
            FakeAsks(), Gate(Pace(1)), Budget(None, None), lambda: None,
            dtype="float32", patience_s=1.0,
        )  # fmt: skip
        asking.dims = 99
        await asking.embed(Request(1, [Item("a")], Trial(1)))

    with pytest.raises(Stopped, match="4 numbers now, those before had 99"):
        in_virtual_time(main())
