"""No minute at the provider sees more than a key's limits, and hardly less where all is wanted.

The arithmetic is the script's, under a clock of the test's own: calls go out up to half a second
after they were leased, which is as long as a lease is valid, and take up to half a second more.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedpool_shared.provider_keys import GRAIN_MS, WINDOW_MS
from support.key_clock import KeyAtWill

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import redis

    from support.valkey import RedisServer

MINUTE_MS = 60_000
Call = tuple[int, int]
"""When it arrived at the provider, and its tokens."""


@pytest.fixture
def client(valkey: RedisServer) -> Iterator[redis.Redis]:
    with valkey.client() as client:
        yield client


def fullest_minute(calls: Sequence[Call]) -> tuple[int, int]:
    """The most calls and the most tokens of any sliding minute."""
    ordered = sorted(calls)
    most = (0, 0)
    start = tokens = 0
    for end, (at, size) in enumerate(ordered):
        tokens += size
        while ordered[start][0] <= at - MINUTE_MS:
            tokens -= ordered[start][1]
            start += 1
        most = (max(most[0], end - start + 1), max(most[1], tokens))
    return most


@settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    rpm=st.integers(1, 40),
    tpm=st.integers(50, 2_000),
    steps=st.lists(
        st.tuples(
            st.integers(0, 5_000),  # ms before it
            st.integers(1, 400),  # tokens wanted
            st.floats(0, 1),  # the share of them that must travel together
            st.integers(0, 1_000),  # ms until the call arrives
            st.sampled_from(["use", "use", "use", "use less", "return"]),
            st.booleans(),  # whether it is for bulk
        ),
        max_size=120,
    ),
)
def test_no_sliding_minute_exceeds_a_limit(
    client: redis.Redis, rpm: int, tpm: int, steps: list[tuple[int, int, float, int, str, bool]]
) -> None:
    client.flushall()
    key = KeyAtWill(client, rpm=rpm, tpm=tpm)
    calls: list[Call] = []
    returns: list[tuple[int, int, int]] = []
    for pause_ms, tokens, share, delay_ms, what, is_bulk in steps:
        key.now_ms += pause_ms
        least = min(int(tokens * share), tpm)
        leased = key.lease(tokens=tokens, least=least, is_bulk=is_bulk, returns=returns)
        returns = []
        assert leased.requests or leased.wait_ms > 0
        if not leased.requests:
            continue
        each = leased.tokens // leased.requests
        assert each >= least
        if what == "return":
            returns.append((leased.grain, leased.requests, leased.tokens))
            continue
        sent = each if what == "use" else each // 2
        returns.append((leased.grain, 0, (each - sent) * leased.requests))
        calls += [(key.now_ms + delay_ms, sent)] * leased.requests

    most_calls, most_tokens = fullest_minute(calls)
    assert most_calls <= rpm
    assert most_tokens <= tpm


@pytest.mark.parametrize(("rpm", "at_least"), [(3, 2), (60, 57), (600, 575), (1_000, 970)])
def test_where_all_is_wanted_hardly_anything_of_a_request_limit_is_left(
    client: redis.Redis, rpm: int, at_least: int
) -> None:
    key = KeyAtWill(client, rpm=rpm)

    calls = greedy(key, for_ms=4 * MINUTE_MS)

    assert fullest_minute(calls)[0] <= rpm
    late = [call for call in calls if call[0] >= calls[0][0] + 2 * MINUTE_MS]
    assert len(late) / 2 >= at_least


def test_calls_that_were_slow_at_first_and_then_quick_keep_the_limit(client: redis.Redis) -> None:
    key = KeyAtWill(client, rpm=600, tpm=60_000)
    turn_ms = key.now_ms + 2 * MINUTE_MS

    calls = greedy(key, for_ms=4 * MINUTE_MS, tokens=100)

    arrived = [(at + (1_000 if at < turn_ms else 0), size) for at, size in calls]
    most_calls, most_tokens = fullest_minute(arrived)
    assert most_calls <= 600
    assert most_tokens <= 60_000


@pytest.mark.parametrize("tokens", [20 * 64, 100 * 64, 300 * 64, 200_000])
def test_where_all_is_wanted_hardly_anything_of_a_token_limit_is_left(
    client: redis.Redis, tokens: int
) -> None:
    key = KeyAtWill(client, rpm=600, tpm=200_000)

    calls = greedy(key, for_ms=6 * MINUTE_MS, tokens=tokens)

    most_calls, most_tokens = fullest_minute(calls)
    assert most_calls <= 600
    assert most_tokens <= 200_000
    late = [size for at, size in calls if at >= calls[0][0] + 2 * MINUTE_MS]
    assert sum(late) / 4 >= 0.95 * 200_000


def test_calls_at_the_limit_are_spread_so_that_nobody_waits_a_minute(client: redis.Redis) -> None:
    key = KeyAtWill(client, rpm=60, tpm=100_000)

    calls = greedy(key, for_ms=5 * MINUTE_MS, tokens=1_000)

    assert max(later[0] - earlier[0] for earlier, later in pairwise(calls)) < 10_000


def test_an_idle_key_takes_some_calls_at_once(client: redis.Redis) -> None:
    key = KeyAtWill(client, rpm=60)

    at_once = 0
    while (leased := key.lease()).requests:
        at_once += leased.requests

    assert 6 <= at_once <= 8
    assert 0 < leased.wait_ms <= 1_100


def test_two_calls_of_the_smallest_limit_need_not_wait_for_each_other(
    client: redis.Redis,
) -> None:
    key = KeyAtWill(client, rpm=3)

    assert [key.lease().requests for _ in range(3)] == [1, 1, 0]


def test_a_wait_is_as_long_as_it_takes_and_no_longer(client: redis.Redis) -> None:
    key = KeyAtWill(client, rpm=2, tpm=1_000)
    key.lease(tokens=900, least=900)
    key.now_ms += 30_000

    wait_ms = key.lease(tokens=500, least=500).wait_ms

    key.now_ms += wait_ms - 1
    assert not key.lease(tokens=500, least=500).requests
    key.now_ms += 1
    assert key.lease(tokens=500, least=500).requests


def test_an_item_larger_than_the_limit_travels_when_the_minute_is_empty(
    client: redis.Redis,
) -> None:
    key = KeyAtWill(client, tpm=1_000)

    assert key.lease(tokens=5_000, least=5_000).tokens == 1_000
    key.now_ms += WINDOW_MS - 1
    assert not key.lease(tokens=5_000, least=5_000).requests
    key.now_ms += 1 + GRAIN_MS
    assert key.lease(tokens=5_000, least=5_000).requests


def test_a_lease_holds_more_than_one_call_only_while_there_is_plenty(client: redis.Redis) -> None:
    key = KeyAtWill(client, rpm=100)

    sizes = [leased for leased in (key.lease().requests for _ in range(10)) if leased]

    assert sizes[:2] == [4, 4]
    assert set(sizes[2:]) <= {1}


def test_what_is_handed_back_can_be_leased_again(client: redis.Redis) -> None:
    key = KeyAtWill(client, tpm=1_000)
    leased = key.lease(tokens=1_000, least=1_000)
    assert not key.lease(tokens=100, least=100).requests

    again = key.lease(tokens=900, least=900, returns=[(leased.grain, 1, 1_000)])

    assert again.tokens == 900


def test_tokens_a_call_had_beyond_its_lease_count(client: redis.Redis) -> None:
    key = KeyAtWill(client, tpm=1_000)
    leased = key.lease(tokens=100, least=100)

    key.lease(calls=0, returns=[(leased.grain, 0, -850)])

    assert not key.lease(tokens=200, least=200).requests


def test_what_comes_back_after_redis_has_forgotten_the_key_changes_nothing(
    client: redis.Redis,
) -> None:
    key = KeyAtWill(client, rpm=60, tpm=1_000)
    leased = key.lease(tokens=100)
    client.flushall()

    assert key.lease(tokens=100, returns=[(leased.grain, 1, 100)]).requests


def test_a_clock_set_back_does_not_lock_the_key(client: redis.Redis) -> None:
    key = KeyAtWill(client, rpm=60)
    for _ in range(10):
        key.lease()
    key.now_ms -= 3_600_000

    assert key.lease().wait_ms <= 2 * WINDOW_MS
    key.now_ms += 2 * WINDOW_MS
    assert key.lease().requests


def test_a_key_without_limits_leases_nothing(client: redis.Redis) -> None:
    leased = KeyAtWill(client).lease(tokens=5)

    assert (leased.requests, leased.wait_ms, leased.rpm, leased.tpm) == (0, 0, 0, 0)


# What the provider says


def test_a_lower_limit_of_the_providers_is_adopted(client: redis.Redis) -> None:
    key = KeyAtWill(client, rpm=600)

    leased = key.lease(said=(60, -1, 0, -1, -1, 0))

    assert leased.rpm == 60
    assert key.lease().rpm == 60


def test_a_higher_limit_of_the_providers_changes_nothing(client: redis.Redis) -> None:
    assert KeyAtWill(client, rpm=60).lease(said=(600, 599, 1_000, -1, -1, 0)).rpm == 60


def test_when_the_provider_says_that_fewer_remain_it_is_believed_until_its_reset(
    client: redis.Redis,
) -> None:
    key = KeyAtWill(client, rpm=60)
    key.lease(calls=0, said=(60, 0, 20_000, -1, -1, 0))

    refused = key.lease()
    assert (refused.requests, refused.wait_ms) == (0, 20_000)
    key.now_ms += 20_000
    assert key.lease().requests


def test_what_is_handed_back_is_no_room_where_the_provider_says_that_nothing_remains(
    client: redis.Redis,
) -> None:
    key = KeyAtWill(client, rpm=600, tpm=100_000)
    leased = key.lease(tokens=100)
    assert leased.requests == 4

    key.lease(
        calls=0,
        said=(30, 0, 5_000, 2_000, 0, 5_000),
        returns=[(leased.grain, 3, leased.tokens - 100)],
    )

    refused = key.lease(tokens=100)
    assert (refused.requests, refused.wait_ms) == (0, 5_000)
    key.now_ms += 5_000
    assert key.lease(tokens=100).requests


# Everybody's health


def test_a_rest_reported_by_one_worker_is_told_to_all(client: redis.Redis) -> None:
    key = KeyAtWill(client)

    key.rest("cooling", 7_000, "throttled")
    key.now_ms += 2_000

    told = key.lease("other", calls=0)
    assert told.cooling_ms == 5_000
    key.now_ms += 5_000
    assert key.lease("other", calls=0).cooling_ms == 0


def test_a_rest_is_never_shortened(client: redis.Redis) -> None:
    key = KeyAtWill(client)
    key.rest("cooling", 7_000, "throttled")

    key.rest("cooling", 100, "throttled")

    assert key.lease(calls=0).cooling_ms == 7_000


def test_a_retired_key_is_tried_by_one_worker_after_its_time(client: redis.Redis) -> None:
    key = KeyAtWill(client)
    key.rest("retired", 600_000, "rejected")
    assert key.lease("a", calls=0).may_try == 0
    key.now_ms += 600_000

    told = [key.lease(worker, calls=0) for worker in ("a", "b", "c")]

    assert [(one.may_try, one.retired_ms > 0) for one in told] == [(1, True), (0, True), (0, True)]


def test_a_worker_that_has_just_started_may_try_a_retired_key(client: redis.Redis) -> None:
    key = KeyAtWill(client)
    key.rest("retired", 600_000, "rejected")

    assert key.lease("new", calls=0, is_new=True).may_try == 1


def test_a_retired_key_that_works_again_is_well_for_all(client: redis.Redis) -> None:
    key = KeyAtWill(client)
    key.rest("retired", 600_000, "rejected")

    key.rest("well")

    assert key.lease("other", calls=0).retired_ms == 0


def test_slots_are_halved_once_in_a_round_trip_however_many_workers_ask(
    client: redis.Redis,
) -> None:
    key = KeyAtWill(client, slots=8)

    assert [key.rest("halve", halves=True) for _ in range(4)] == [4, 4, 4, 4]
    key.now_ms += 100
    assert [key.rest("halve", halves=True) for _ in range(4)] == [2, 2, 2, 2]
    assert key.lease(calls=0).slots == 2


def test_slots_never_fall_below_one_and_recover_to_what_is_configured(
    client: redis.Redis,
) -> None:
    key = KeyAtWill(client, slots=4)
    for _ in range(5):
        key.now_ms += 1_000
        key.rest("halve", halves=True)
    assert key.lease(calls=0).slots == 1

    grown = []
    for _ in range(5):
        key.now_ms += 1_000
        grown.append(key.lease(calls=0, may_grow=True).slots)

    assert grown == [2, 3, 4, 4, 4]


def test_workers_count_while_they_keep_in_touch(client: redis.Redis) -> None:
    key = KeyAtWill(client)
    key.lease("a", calls=0, in_flight=3)
    assert key.lease("b", calls=0).workers == 2

    key.now_ms += 2_000
    assert key.lease("b", calls=0).workers == 2
    key.now_ms += 1_000

    assert key.lease("b", calls=0).workers == 1


def test_nothing_of_a_key_nobody_uses_is_kept(client: redis.Redis) -> None:
    key = KeyAtWill(client, rpm=60)
    key.lease()
    assert 0 < key.ends_in_ms() <= 900_000

    key.rest("cooling", 3_600_000, "throttled")

    assert 3_600_000 < key.ends_in_ms() <= 3_660_000


def greedy(key: KeyAtWill, *, for_ms: int, tokens: int = 0) -> list[Call]:
    """Call whenever a lease can be had."""
    calls: list[Call] = []
    end = key.now_ms + for_ms
    while key.now_ms < end:
        leased = key.lease(tokens=tokens, least=min(tokens, 300))
        if leased.requests:
            calls += [(key.now_ms, leased.tokens // leased.requests)] * leased.requests
        key.now_ms += leased.wait_ms or 1
    return calls
