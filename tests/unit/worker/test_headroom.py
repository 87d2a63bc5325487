"""Leases are used once, in time, and what is left of them goes back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from embedpool_shared.jobs import LaneClass
from embedpool_worker.headroom import ASK_AGAIN_S, Headroom, Lease, Need, Return

INTERACTIVE, BULK = LaneClass.INTERACTIVE, LaneClass.BULK


def lease(requests: int = 1, tokens: int = 0, until_at: float = 10.0, grain: int = 7) -> Lease:
    return Lease(grain, requests, tokens, until_at)


def test_a_lease_is_used_only_while_it_is_valid() -> None:
    headroom = Headroom(60, None)
    headroom.lease(lease())

    assert headroom.covers(Need(), now=9.99)
    assert not headroom.covers(Need(), now=10.0)
    assert headroom.take(Need(), now=10.0) is None


def test_a_call_takes_as_much_as_it_needs_and_no_more_than_there_is() -> None:
    headroom = Headroom(60, 1_000)
    headroom.lease(lease(2, 100))

    first = headroom.take(Need(80, 10), now=0.0)
    second = headroom.take(Need(80, 10), now=0.0)

    assert first is not None
    assert second is not None
    assert (first.tokens, second.tokens) == (80, 20)


def test_a_lease_too_small_for_what_must_travel_together_is_left() -> None:
    headroom = Headroom(60, 1_000)
    headroom.lease(lease(2, 100))

    assert headroom.take(Need(500, 101), now=0.0) is None


def test_an_item_above_the_whole_limit_travels_with_the_whole_limit() -> None:
    headroom = Headroom(None, 100)
    headroom.lease(lease(1, 100))

    assert headroom.take(Need(500, 500), now=0.0) is not None


def test_a_call_that_was_not_made_hands_all_back_once() -> None:
    headroom = Headroom(60, 1_000)
    headroom.lease(lease(1, 100))
    share = headroom.take(Need(100), now=0.0)
    assert share is not None

    headroom.give_back(share)
    headroom.give_back(share)

    assert headroom.handed_back() == [Return(7, 1, 100)]
    assert headroom.handed_back() == []


def test_a_call_that_was_made_hands_back_only_tokens_it_did_not_have() -> None:
    headroom = Headroom(60, 1_000)
    headroom.lease(lease(1, 100))
    share = headroom.take(Need(100), now=0.0)
    assert share is not None
    share.is_used = True

    headroom.settle(share, 60)
    headroom.settle(share, 75)
    headroom.give_back(share)

    assert headroom.handed_back() == [Return(7, 0, 40), Return(7, 0, -15)]


def test_it_says_when_something_is_to_be_handed_back() -> None:
    headroom = Headroom(60, None)
    assert headroom.lapses_at() is None

    headroom.lease(lease(until_at=3.0))
    assert headroom.lapses_at() == 3.0
    headroom.lapse(3.0)
    assert headroom.lapses_at() == 0.0


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("lease"), st.integers(1, 4), st.integers(0, 400)),
            st.tuples(st.just("take"), st.integers(0, 300), st.integers(0, 100)),
            st.tuples(st.just("wait"), st.integers(0, 3), st.just(0)),
        ),
        max_size=40,
    )
)
def test_what_was_leased_is_used_or_handed_back_to_the_last_token(
    steps: list[tuple[str, int, int]],
) -> None:
    headroom, now = Headroom(60, 10_000), 0.0
    leased = [0, 0]
    used = [0, 0]
    for what, one, two in steps:
        if what == "lease":
            headroom.lease(lease(one, two, now + 2.0))
            leased = [leased[0] + one, leased[1] + two]
        elif what == "wait":
            now += one
        elif share := headroom.take(Need(one, two), now=now):
            assert two <= share.tokens <= max(one, two)
            share.is_used = True
            used = [used[0] + 1, used[1] + share.tokens]
    headroom.lapse(now + 10.0)

    back = headroom.handed_back()
    assert used[0] + sum(r.requests for r in back) == leased[0]
    assert used[1] + sum(r.tokens for r in back) == leased[1]


@given(st.integers(0, 10_000), st.integers(0, 500), st.integers(1, 300), st.integers(1, 64))
def test_a_need_within_caps_is_never_less_than_what_must_travel_together(
    tokens: int, least: int, items: int, max_items: int
) -> None:
    need = Need(tokens, least, items).within(max_items=max_items, max_tokens=2_000)

    assert need.tokens >= need.least_tokens == least
    assert need.tokens <= max(least, min(2_000, tokens))
    assert need.items <= max_items


def test_where_bulk_finds_no_room_interactive_calls_may_still_ask() -> None:
    headroom = Headroom(60, None)

    headroom.refused(2.0, BULK, now=10.0)

    assert (headroom.full_until_at(BULK), headroom.ask_again_at(BULK)) == (12.0, 10.0 + ASK_AGAIN_S)
    assert (headroom.full_until_at(INTERACTIVE), headroom.ask_again_at(INTERACTIVE)) == (0.0, 0.0)


def test_where_interactive_calls_find_no_room_bulk_finds_none() -> None:
    headroom = Headroom(60, None)

    headroom.refused(0.1, INTERACTIVE, now=10.0)

    assert headroom.full_until_at(INTERACTIVE) == headroom.full_until_at(BULK) == 10.1
    assert headroom.ask_again_at(INTERACTIVE) == headroom.ask_again_at(BULK) == 10.1


def test_a_lease_tells_that_there_is_room_for_its_class_and_for_interactive_calls() -> None:
    for granted, free in ((INTERACTIVE, {INTERACTIVE}), (BULK, {INTERACTIVE, BULK})):
        headroom = Headroom(60, None)
        headroom.refused(2.0, INTERACTIVE, now=10.0)

        headroom.lease(lease(), granted)

        assert {one for one in LaneClass if not headroom.full_until_at(one)} == free
