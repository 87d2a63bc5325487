"""The apply script: a range of a ledger is added to an account once, and settles reservations."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from embedpool_shared.accounts import MONTHLY, Limits
from embedpool_shared.scripts import script
from integration.account_by_hand import Account, Settled, Wish
from support.valkey import RedisServer

LIMITS = Limits(rpm=100, tpm=1_000, budget_pico_usd=1_000)
MARCH_S = 1_772_323_200
"""2026-03-01, midnight UTC."""


@pytest.fixture
def account(valkey: RedisServer) -> Iterator[Account]:
    """An account nothing is known of yet."""
    with valkey.client() as client:
        yield Account(client)


def test_a_range_is_added_once(account: Account) -> None:
    assert account.apply(cost=70, last="5-1", sums=(2, 30, 20, 15, 5)) == 1
    assert account.apply(cost=70, last="5-1", sums=(2, 30, 20, 15, 5)) == 0

    assert account.hash() == {
        "requests": "2",
        "cost": "70",
        "period_cost": "70",
        "used": "30",
        "paid": "20",
        "saved": "15",
        "waste": "5",
        "lane:m": "5-1",
    }


@pytest.mark.parametrize(
    ("earlier", "later", "is_new"),
    [
        ("5-1", "5-2", True),
        ("5-9", "5-10", True),
        ("9-5", "10-0", True),
        ("10-0", "9-5", False),
        ("5-10", "5-9", False),
        ("1763768474123-0", "1763768474123-0", False),
        ("999999999999-7", "1763768474123-0", True),
    ],
)
def test_ledger_ids_are_compared_as_two_numbers(
    account: Account, earlier: str, later: str, is_new: bool
) -> None:
    account.apply(last=earlier)

    assert account.apply(last=later) == int(is_new)


def test_each_lane_counts_its_own_ranges(account: Account) -> None:
    account.apply(last="9-9", lane="one", cost=1)

    assert account.apply(last="1-1", lane="two", cost=1) == 1
    assert account.hash()["cost"] == "2"


def test_a_refused_range_settles_nothing(account: Account) -> None:
    account.admit(LIMITS, Wish(tokens=10, cost=50))
    account.apply(last="5-1")

    account.apply(Settled("r", cost=50), cost=50, last="5-1")

    assert account.reserved_cost == 50


def test_sums_beyond_what_a_double_holds_stay_exact(account: Account) -> None:
    for _ in range(3):
        account.apply(cost=2**53 + 1, sums=(0, 2**53 + 1, 1, 1, 1))

    assert account.hash()["cost"] == str(3 * 2**53 + 3)
    assert account.hash()["period_cost"] == str(3 * 2**53 + 3)
    assert account.hash()["used"] == str(3 * 2**53 + 3)


def test_a_budget_beyond_what_a_double_holds_still_ends(account: Account) -> None:
    budget = 50_000 * 10**12  # dollars
    account.apply(cost=budget - 10**12)

    (fits,) = account.admit(Limits(budget_pico_usd=budget), Wish(cost=9 * 10**11))
    (over,) = account.admit(Limits(budget_pico_usd=budget), Wish(cost=2 * 10**11), reservation="s")

    assert (fits.verdict, over.verdict) == (0, 4)


def test_jobs_that_end_in_several_ranges_leave_with_what_was_reserved_for_each(
    account: Account,
) -> None:
    account.admit(LIMITS, Wish(tokens=70, cost=210, jobs=2), Wish(tokens=30, cost=90))

    account.apply(Settled("r", 1, 40, 120, used=20), cost=60)
    assert account.reserved_cost == 180
    account.apply(Settled("r", 1, 30, 90, used=20), cost=60, lane="other")
    assert account.reserved_cost == 90
    (before,) = account.admit(LIMITS, Wish(tokens=1_001))
    account.apply(Settled("r", 1, 30, 90, used=20), cost=60)

    (after,) = account.admit(LIMITS, Wish(tokens=1_001))
    assert (before.tokens, after.tokens) == (70, 60)
    assert (before.requests, after.requests) == (2, 2)
    assert not account.leftovers()


def test_a_request_that_used_more_than_reserved_counts_with_what_it_used(
    account: Account,
) -> None:
    account.admit(LIMITS, Wish(tokens=10, cost=10), Wish(tokens=5, cost=5))

    account.apply(Settled("r", 1, 10, 10, used=700), cost=900)

    (after,) = account.admit(LIMITS, Wish(tokens=300), reservation="s")
    assert (after.verdict, after.tokens) == (2, 705)
    assert account.reserved_cost == 5


def test_what_a_job_costs_beyond_its_reservation_is_taken_from_no_other(
    account: Account,
) -> None:
    account.admit(LIMITS, Wish(cost=50, jobs=2), Wish(cost=5))

    account.apply(Settled("r", 1, cost=25), cost=80)
    assert account.reserved_cost == 30
    account.apply(Settled("r", 1, cost=25), cost=80)

    assert account.reserved_cost == 5
    assert account.hash()["cost"] == "160"


def test_a_request_given_back_leaves_the_others_their_reservation(account: Account) -> None:
    account.admit(LIMITS, Wish(tokens=10, cost=50, jobs=2), Wish(tokens=20, cost=5))

    released = [account.release(("r", 0, 2, 10, 50)) for _ in range(2)]

    assert released == [1, 0]
    assert account.reserved_cost == 5
    (after,) = account.admit(LIMITS, Wish(tokens=1_001))
    assert (after.requests, after.tokens) == (1, 20)
    account.apply(Settled("r", 1, 20, 5, used=20), cost=5)
    assert not account.leftovers()


def test_all_that_a_call_may_have_granted_goes_back_at_once(account: Account) -> None:
    account.admit(LIMITS, Wish(tokens=10, cost=50, jobs=2), Wish(tokens=20, cost=5))

    released = [account.release(("r", "", 0, 0, 0)) for _ in range(2)]

    assert released == [2, 0]
    (after,) = account.admit(LIMITS, Wish(tokens=1_001))
    assert (after.requests, after.tokens) == (0, 0)
    assert not account.leftovers()


def test_what_went_back_already_does_not_go_back_with_the_rest(account: Account) -> None:
    account.admit(LIMITS, Wish(), reservation="other")
    account.admit(LIMITS, Wish(tokens=10), Wish(tokens=20), Wish(tokens=30))

    assert account.release(("r", 1, 1, 20, 0)) == 1
    assert account.release(("r", "", 0, 0, 0)) == 2

    (after,) = account.admit(LIMITS, Wish(tokens=1_001))
    assert (after.requests, after.tokens) == (1, 1)


@pytest.mark.parametrize("limits", [LIMITS, Limits(budget_pico_usd=9), Limits(parallel=3)])
def test_nothing_of_what_is_let_in_stays_for_ever(account: Account, limits: Limits) -> None:
    names = account.names
    account.admit(limits, Wish())
    account.admit(limits, Wish(), reservation="s")

    ttls: dict[bytes, Any] = {
        name: account.client.pttl(name)
        for name in account.client.scan_iter(f"{names.account}*")
        if name != names.account.encode()
    }

    lapse_ms = 15_000 if limits.parallel else 180_000
    assert all(0 < ttl <= lapse_ms + 10_000 for ttl in ttls.values()), ttls
    assert all(ttl > lapse_ms - 1_000 for name, ttl in ttls.items() if b":held" in name), ttls
    assert all(ttl > 59_000 for name, ttl in ttls.items() if b":window" in name), ttls
    assert len(ttls) == (1 if limits.parallel else 2 + (limits.rpm is not None))


def test_numbers_given_back_are_told_apart(account: Account) -> None:
    account.admit(LIMITS, *(Wish(cost=1) for _ in range(13)))

    assert account.release(("r", 12, 1, 1, 1)) == 1
    assert account.release(("r", 2, 1, 1, 1), ("r", 1, 1, 1, 1), ("r", 12, 1, 1, 1)) == 2

    assert account.reserved_cost == 10


def test_a_correction_after_its_second_has_lapsed_changes_nothing(account: Account) -> None:
    account.admit(LIMITS, Wish(tokens=10))
    account.now_ms += 70_000
    account.admit(LIMITS, Wish(tokens=7), reservation="s")

    account.apply(Settled("r", 1, 10, used=500))

    (after,) = account.admit(LIMITS, Wish(tokens=1_001))
    assert (after.requests, after.tokens) == (1, 7)


def test_settling_what_lapsed_or_was_never_reserved_is_no_error(account: Account) -> None:
    account.admit(LIMITS, Wish(cost=9), hold_ms=60_000)
    account.now_ms += 60_000

    assert account.apply(Settled("r", cost=9), Settled("unheard of", cost=9), cost=18) == 1

    assert account.hash()["cost"] == "18"
    assert not account.leftovers()


def test_what_lapsed_makes_room_as_soon_as_somebody_needs_it(account: Account) -> None:
    limits = Limits(budget_pico_usd=10)
    account.admit(limits, Wish(cost=9), hold_ms=60_000)
    account.now_ms += 60_000

    (fits,) = account.admit(limits, Wish(cost=1), reservation="s")
    (needs_it,) = account.admit(limits, Wish(cost=9), reservation="t")

    assert (fits.verdict, needs_it.verdict) == (0, 0)
    assert account.reserved_cost == 10


def test_one_call_drops_no_more_lapsed_reservations_than_it_has_time_for(account: Account) -> None:
    limits = Limits(budget_pico_usd=10**9)
    for number in range(150):
        account.admit(limits, Wish(cost=1), reservation=str(number), hold_ms=60_000)
    account.now_ms += 60_000

    account.apply()
    assert account.reserved_cost == 50
    account.apply()

    assert not account.leftovers()


def test_thousands_of_settlements_fit_one_call(account: Account) -> None:
    limits = Limits(tpm=10**9, budget_pico_usd=10**15)
    reservations = [f"r{n}" for n in range(1_000)]
    for reservation in reservations:
        account.admit(limits, Wish(50, 900), Wish(50, 900), reservation=reservation)

    account.apply(*(Settled(one, 2, 100, 1_800, used=80) for one in reservations), cost=1_800_000)

    (after,) = account.admit(limits, Wish(tokens=10**9 + 1))
    assert after.tokens == 80_000
    assert not account.leftovers()


def test_an_account_may_be_kept_for_ever_or_forgotten_when_idle(account: Account) -> None:
    account.apply()
    assert account.client.pttl(account.names.account) == -1

    account.apply(idle_ms=60_000)
    ttl_ms: Any = account.client.pttl(account.names.account)
    assert 50_000 < ttl_ms <= 60_000


def test_a_new_period_begins_when_spend_is_added_too(account: Account) -> None:
    account.client.hset(account.names.account, mapping={"every": 100})
    account.apply(cost=30)
    begun_s = account.now_ms // 1_000
    assert account.hash()["reset_at"] == str(begun_s + 100)

    account.now_ms += 99_999
    account.apply(cost=30)
    assert account.hash()["period_cost"] == "60"
    account.now_ms += 250_001
    account.apply(cost=30)

    found = account.hash()
    assert (found["cost"], found["period_cost"]) == ("90", "30")
    assert found["reset_at"] == str(begun_s + 400)


def test_what_was_spent_before_the_first_period_counts_in_it(account: Account) -> None:
    account.apply(cost=30)
    account.client.hset(account.names.account, mapping={"every": 100})

    account.apply(cost=30)

    assert account.hash()["period_cost"] == "60"


def test_of_a_budget_and_a_rate_both_reached_the_budget_is_named(account: Account) -> None:
    limits = Limits(rpm=1, budget_pico_usd=10)
    account.client.hset(account.names.account, mapping={"every": 20})
    account.admit(limits, Wish(cost=10))

    (soon,) = account.admit(limits, Wish(cost=1))
    account.client.hdel(account.names.account, "every")
    (never,) = account.admit(limits, Wish(cost=1))

    assert (soon.verdict, soon.wait_ms) == (4, 20_000)
    assert (never.verdict, never.wait_ms) == (4, 0)


def test_a_refused_request_waits_for_the_next_month(account: Account) -> None:
    account.now_ms = MARCH_S * 1_000 - 60_000
    account.client.hset(account.names.account, mapping={"every": MONTHLY})
    account.apply(cost=1_000)

    (refused,) = account.admit(LIMITS, Wish(cost=1))
    account.now_ms += refused.wait_ms
    (later,) = account.admit(LIMITS, Wish(cost=1))

    assert (refused.verdict, refused.wait_ms, later.verdict) == (4, 60_000, 0)


def next_month_s(now_s: int) -> int:
    now = datetime.fromtimestamp(now_s, UTC)
    year, month = (now.year + 1, 1) if now.month == 12 else (now.year, now.month + 1)
    return round(datetime(year, month, 1, tzinfo=UTC).timestamp())


def test_months_are_those_of_the_calendar(valkey: RedisServer) -> None:
    wrapped = script("period").source + "return {next_month_s(tonumber(ARGV[1]))}"
    with valkey.client() as client:

        @settings(max_examples=300)
        @given(st.integers(0, 7_258_118_399))  # until the year 2200
        @example(MARCH_S - 1)
        @example(MARCH_S)
        @example(951_782_400)  # 2000-02-29
        @example(4_107_542_399)  # 2100-02-28, the last second
        @example(1_798_761_599)  # 2026-12-31, the last second
        def are_those_of_python(now_s: int) -> None:
            found: Any = client.eval(wrapped, 0, str(now_s))
            assert found == [next_month_s(now_s)]

        are_those_of_python()
