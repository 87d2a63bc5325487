"""Guessing is slow from one place, and does not fill the memory from many."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from embedpool_api.status.logins import WINDOW_S, Logins


def test_the_tries_of_a_minute_are_bounded() -> None:
    logins = Logins(max_tries=3)

    waits = [logins.wait_s("192.0.2.1", now=float(at)) for at in range(5)]

    assert waits == [0.0, 0.0, 0.0, WINDOW_S - 3, WINDOW_S - 4]


def test_after_the_wait_that_was_named_there_is_another_try() -> None:
    logins = Logins(max_tries=1)
    logins.wait_s("192.0.2.1", now=10.0)

    wait_s = logins.wait_s("192.0.2.1", now=30.0)

    assert logins.wait_s("192.0.2.1", now=30.0 + wait_s) == 0.0


@given(st.lists(st.floats(0, 150), min_size=20, max_size=80))
def test_no_minute_has_more_tries_than_allowed(instants: list[float]) -> None:
    logins = Logins(max_tries=5)

    tried = [now for now in sorted(instants) if logins.wait_s("192.0.2.1", now=now) == 0.0]

    assert all(
        earlier + WINDOW_S <= later for earlier, later in zip(tried, tried[5:], strict=False)
    )


def test_a_clock_set_back_locks_nobody_out() -> None:
    logins = Logins(max_tries=1)
    logins.wait_s("192.0.2.1", now=7_200.0)

    assert logins.wait_s("192.0.2.1", now=3_600.0) == 0.0


def test_places_are_counted_apart_and_a_network_as_one_place() -> None:
    logins = Logins(max_tries=1)
    logins.wait_s("192.0.2.1", now=0.0)
    logins.wait_s("2001:db8::1", now=0.0)

    assert logins.wait_s("192.0.2.2", now=1.0) == 0.0
    assert logins.wait_s("2001:db8::ffff", now=1.0) > 0


def test_who_got_in_starts_anew() -> None:
    logins = Logins(max_tries=1)
    logins.wait_s("192.0.2.1", now=0.0)

    logins.forget("192.0.2.1")

    assert logins.wait_s("192.0.2.1", now=1.0) == 0.0


def test_many_places_push_out_the_one_that_was_quiet_longest() -> None:
    logins = Logins(max_tries=1, max_sites=2)
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
        logins.wait_s(address, now=0.0)

    assert logins.wait_s("192.0.2.3", now=1.0) > 0
    assert logins.wait_s("192.0.2.2", now=1.0) > 0
    assert logins.wait_s("192.0.2.1", now=1.0) == 0.0
