"""What a glance at a lane says, in the units that people read."""

from __future__ import annotations

from typing import Any

import pytest

from embedpool_api.status.lanes_seen import DeadLetter, LaneSeen, lane_seen, packs_by_worker

NOW_US = 1_800_000_000_250_000
NOW_S = b"1800000000"
BEFORE = b"1799999999"
LONG_AGO = b"1799990000"
EMPTY: list[Any] = [0, 0, []]


def seen(
    *,
    depth: tuple[bytes | None, ...] = (None,) * 6,
    interactive: list[Any] = EMPTY,
    bulk: list[Any] = EMPTY,
    dead: tuple[int, list[Any]] = (0, []),
    name: str = "m",
) -> LaneSeen:
    return lane_seen(name, [NOW_US, list(depth), *dead, interactive, bulk])


def test_a_lane_nobody_used_is_empty() -> None:
    assert seen() == LaneSeen(
        name="m",
        items=0,
        bytes=0,
        tokens=0,
        packs=0,
        packs_leased=0,
        oldest_s=0.0,
        served_per_s=0,
        dead_letters=0,
    )


def test_both_classes_count_and_the_oldest_pack_of_either_is_the_oldest() -> None:
    lane = seen(
        depth=(b"7", b"900", b"70", None, None, None),
        interactive=[3, NOW_US - 1_500_000, [b"w1", 1, b"w2", 1]],
        bulk=[4, NOW_US - 9_250_000, [b"w1", 2]],
    )

    assert (lane.items, lane.bytes, lane.tokens) == (7, 900, 70)
    assert (lane.packs, lane.packs_leased) == (7, 4)
    assert lane.oldest_s == pytest.approx(9.25)
    assert lane.holders == (("w1", 3), ("w2", 1))


def test_an_arrival_after_the_glance_is_not_in_the_future() -> None:
    assert seen(interactive=[1, NOW_US + 5, []]).oldest_s == 0.0


@pytest.mark.parametrize(
    ("second", "served", "before", "expected"),
    [
        (NOW_S, b"3", b"40", 40),
        (NOW_S, b"50", b"40", 50),
        (BEFORE, b"40", b"9", 40),
        (LONG_AGO, b"40", b"9", 0),
        (None, None, None, 0),
    ],
    ids=["the second runs", "it is ahead already", "it is over", "long ago", "never"],
)
def test_served_is_of_the_last_second(
    second: bytes | None, served: bytes | None, before: bytes | None, expected: int
) -> None:
    lane = seen(depth=(b"0", b"0", b"0", second, served, before))

    assert lane.served_per_s == expected


def test_dead_letters_tell_their_model_and_size_only() -> None:
    fields = [b"id", b"p1", b"n", b"0", b"model", b"m", b"items", b"3", b"bytes", b"9"]

    lane = seen(dead=(5, [[b"1799999990000-0", fields]]))

    assert lane.dead_letters == 5
    assert lane.newest_dead == (DeadLetter(at_ms=1_799_999_990_000, model="m", items=3),)


def test_a_workers_packs_are_added_up_over_lanes() -> None:
    lanes = [
        seen(name="a", interactive=[2, 1, [b"w1", 2]]),
        seen(name="b", bulk=[3, 1, [b"w1", 1, b"w2", 2]]),
    ]

    assert packs_by_worker(lanes) == {"w1": 3, "w2": 2}
