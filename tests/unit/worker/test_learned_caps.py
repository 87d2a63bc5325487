"""What is believed of a cap, for how long, and that it only ever lowers what was configured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_worker.caps import Caps
from embedpool_worker.learned_caps import (
    GUESS_DOUBLES_AFTER_S,
    KEPT_FOR_S,
    CapName,
    Learned,
    LearnedCaps,
    cap_name,
)
from embedpool_worker.providers.cap_words import CapKind
from support.lane_bench import deployment

ITEMS = CapName("d", CapKind.ITEMS, is_named=True)
GUESS = CapName("d", CapKind.ITEMS, is_named=False)
HOUR = GUESS_DOUBLES_AFTER_S


def learned(name: CapName, number: int, *, at: float = 0.0) -> LearnedCaps:
    caps = LearnedCaps()
    assert caps.learn(name, number, now=at)
    return caps


@given(st.text(max_size=20), st.sampled_from(CapKind), st.booleans())
def test_a_caps_name_reads_back(deployment: str, kind: CapKind, is_named: bool) -> None:
    name = CapName(deployment, kind, is_named)

    assert cap_name(str(name)) == name


@pytest.mark.parametrize("written", ["", "named:items", "said:items:d", "named:pounds:d"])
def test_a_name_of_another_version_is_no_cap(written: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (three kinds of nonsense)
        cap_name(written)


def test_nothing_learned_leaves_the_configured_caps_as_they_are() -> None:
    place = deployment()

    assert LearnedCaps().caps_of(place, now=0.0) is place.caps


@given(st.integers(1, 200), st.integers(1, 200), st.booleans())
def test_what_was_learned_only_lowers(configured: int, number: int, is_named: bool) -> None:
    caps = learned(CapName("d", CapKind.ITEMS, is_named), number)

    assert caps.caps_of(deployment(max_items=configured), now=0.0).max_items == min(
        configured, number
    )


def test_a_named_number_holds_for_a_day() -> None:
    caps = learned(ITEMS, 10)

    assert caps.caps_of(deployment(), now=KEPT_FOR_S - 1.0).max_items == 10
    assert caps.caps_of(deployment(), now=KEPT_FOR_S).max_items == 64


def test_a_guess_doubles_every_hour() -> None:
    caps = learned(GUESS, 10)

    seen = [caps.caps_of(deployment(), now=h * HOUR).max_items for h in (0, 0.9, 1, 2, 3, 9)]

    assert seen == [10, 10, 20, 40, 64, 64]


def test_a_guess_and_a_number_bound_together() -> None:
    caps = learned(ITEMS, 10)
    caps.learn(GUESS, 6, now=0.0)

    assert caps.caps_of(deployment(), now=0.0).max_items == 6
    assert caps.caps_of(deployment(), now=2 * HOUR).max_items == 10


def test_a_higher_guess_says_nothing_new_and_a_newer_number_does() -> None:
    caps = learned(GUESS, 10)
    caps.learn(ITEMS, 20, now=0.0)

    assert not caps.learn(GUESS, 10, now=1.0)
    assert not caps.learn(GUESS, 11, now=1.0)
    assert not caps.learn(ITEMS, 20, now=1.0)
    assert caps.learn(ITEMS, 30, now=1.0)
    assert caps.learn(GUESS, 10, now=HOUR + 1.0), "by then it had doubled"


def test_no_cap_falls_below_one() -> None:
    assert learned(GUESS, 0).caps_of(deployment(), now=0.0).max_items == 1


def test_headroom_is_kept_below_a_named_sum_that_is_counted_otherwise() -> None:
    tokens = CapName("d", CapKind.CALL_TOKENS, is_named=True)
    size = CapName("d", CapKind.CALL_BYTES, is_named=True)
    caps = learned(tokens, 1_000)
    caps.learn(size, 5_000, now=0.0)

    ours = caps.caps_of(deployment(encoding="cl100k_base"), now=0.0)
    theirs = caps.caps_of(deployment(), now=0.0)

    assert (ours.max_call_tokens, ours.max_call_bytes) == (1_000, 4_500)
    assert (theirs.max_call_tokens, theirs.max_call_bytes) == (900, 4_500)


def test_a_cap_on_one_item_is_never_lowered() -> None:
    caps = learned(CapName("d", CapKind.CALL_TOKENS, is_named=True), 100)

    assert caps.caps_of(deployment(), now=0.0) == Caps(
        max_items=64, max_item_tokens=8_191, max_call_tokens=90
    )


def test_what_is_shared_replaces_everything_but_what_nobody_heard_yet() -> None:
    caps = learned(ITEMS, 10)
    caps.unshared.clear()
    caps.learn(GUESS, 5, now=0.0)

    caps.know_only({CapName("e", CapKind.ITEMS, is_named=True): Learned(7, 0.0)})

    assert caps.caps_of(deployment(), now=0.0).max_items == 5
    assert caps.caps_of(deployment(id_="e"), now=0.0).max_items == 7
    assert caps.numbers_of(deployment()) == {CapKind.ITEMS: 5}


def test_the_version_names_what_is_known_and_not_when_it_was_learned() -> None:
    caps, same, other = learned(ITEMS, 10), learned(ITEMS, 10, at=9.0), learned(ITEMS, 11)

    assert caps.version == same.version
    assert len({caps.version, other.version, LearnedCaps().version}) == 3
