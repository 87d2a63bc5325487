"""What is held of accounts, and what Redis has still to be told of it."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from embedpool_api.asks import Share
from embedpool_api.holdings import MAX_UNWANTED, Holdings, Notice

ONE = Share("r", 0, 1, 5, 7)


def notices(holdings: Holdings, most: int = 256) -> list[Notice]:
    return holdings.notices(max_shares=most)


def test_what_redis_counts_already_it_is_not_told() -> None:
    holdings = Holdings()

    holdings.begin("k")

    assert holdings.are_in_flight
    assert not holdings.are_due
    assert notices(holdings) == []


def test_an_end_is_told_once_as_the_number_left() -> None:
    holdings = Holdings()
    holdings.begin("k")
    holdings.begin("k")
    holdings.end("k")

    assert notices(holdings) == [Notice("k", 1, ())]
    assert not holdings.are_due


def test_what_the_next_admission_states_is_not_told_again() -> None:
    holdings = Holdings()
    holdings.begin("k")
    holdings.end("k")

    assert holdings.stated("k") == 0
    assert not holdings.are_due


def test_an_end_after_it_was_stated_is_told() -> None:
    holdings = Holdings()
    holdings.begin("k")
    assert holdings.stated("k") == 1

    holdings.end("k")

    assert notices(holdings) == [Notice("k", 0, ())]


def test_whatever_is_in_flight_can_be_said_again() -> None:
    holdings = Holdings()
    holdings.begin("k")
    holdings.give_back("t", [ONE])

    holdings.doubt_all()

    assert notices(holdings) == [Notice("k", 1, ()), Notice("t", None, (ONE,))]


def test_a_notice_that_was_not_heard_is_given_again_in_what_it_says_by_then() -> None:
    holdings = Holdings()
    holdings.begin("k")
    holdings.end("k")
    holdings.give_back("k", [ONE])
    (lost,) = notices(holdings)
    holdings.begin("k")

    holdings.take_again(lost)

    assert notices(holdings) == [Notice("k", 1, (ONE,))]


def test_shares_are_told_in_portions() -> None:
    holdings = Holdings()
    a, b, c = (Share("r", number, 1, 5, 7) for number in range(3))
    holdings.give_back("k", [a, b, c])

    assert [notices(holdings, 2), notices(holdings, 2)] == [
        [Notice("k", None, (a, b))],
        [Notice("k", None, (c,))],
    ]


def test_a_long_outage_fills_no_memory() -> None:
    holdings = Holdings()

    holdings.give_back("k", (Share("r", number) for number in range(MAX_UNWANTED + 5)))

    (notice,) = notices(holdings, MAX_UNWANTED * 2)
    assert len(notice.unwanted) == MAX_UNWANTED
    assert notice.unwanted[0] == Share("r", 5)


class Told:
    """What Redis believes of one account, as far as it was told."""

    def __init__(self) -> None:
        self.holdings = Holdings()
        self.in_flight = 0
        self.true = 0

    def begin(self) -> None:
        self.in_flight = self.holdings.stated("k") + 1
        self.holdings.begin("k")
        self.true += 1

    def end(self) -> None:
        if self.true:
            self.holdings.end("k")
            self.true -= 1

    def tell(self) -> None:
        for notice in notices(self.holdings):
            assert notice.in_flight is not None
            self.in_flight = notice.in_flight

    def lose(self) -> None:
        for notice in notices(self.holdings):
            self.holdings.take_again(notice)


@given(st.lists(st.sampled_from([Told.begin, Told.end, Told.tell, Told.lose]), max_size=40))
def test_redis_ends_up_with_the_true_number_whatever_is_lost(
    steps: list[Callable[[Told], None]],
) -> None:
    redis = Told()

    for step in [*steps, Told.tell]:
        step(redis)

    assert redis.in_flight == redis.true
    assert redis.holdings.are_in_flight is bool(redis.true)
