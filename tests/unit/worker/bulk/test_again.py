"""Which errors end a line of a batch, and how long the others let it rest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_shared import errors
from embedpool_shared.jobs import WireError, wire_error
from embedpool_worker.bulk.again import (
    LIMITED,
    MAX_PAUSE_S,
    MAX_PROVIDER_FAILURES,
    PATIENT,
    is_failure,
    pause_before_try,
)

POOL_ERRORS = sorted(
    name
    for name, one in vars(errors).items()
    if isinstance(one, type) and issubclass(one, errors.PoolError) and one is not errors.PoolError
)


def pause(
    kind: str, *, tries: int = 1, failures: int = 0, retry_after_s: float | None = None
) -> float | None:
    error = WireError(kind, "no", retry_after_s=retry_after_s)
    return pause_before_try(error, tries=tries, provider_failures=failures, draw=0.5)


@pytest.mark.parametrize("kind", sorted(PATIENT))
def test_what_says_that_nobody_can_answer_now_is_tried_again_for_ever(kind: str) -> None:
    assert pause(kind, tries=10_000, failures=10_000) is not None


@pytest.mark.parametrize("kind", sorted(LIMITED))
def test_a_failing_provider_has_a_few_chances(kind: str) -> None:
    assert pause(kind, failures=MAX_PROVIDER_FAILURES - 1) is not None
    assert pause(kind, failures=MAX_PROVIDER_FAILURES) is None
    assert is_failure(WireError(kind, "no"))


def test_what_is_wrong_with_a_line_ends_it() -> None:
    refused = errors.InputRefused("too long")

    assert pause_before_try(wire_error(refused), tries=1, provider_failures=0, draw=0) is None
    assert not is_failure(wire_error(refused))


@pytest.mark.parametrize("kind", POOL_ERRORS)
def test_every_error_of_the_pool_is_known(kind: str) -> None:
    assert kind in PATIENT | LIMITED | {"StoreUnavailable"}


def test_an_error_that_knows_when_it_makes_sense_is_believed_within_bounds() -> None:
    assert pause("NoKeys", retry_after_s=20.0) == 20.0
    assert pause("NoKeys", retry_after_s=10_000.0) == MAX_PAUSE_S


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_pauses_grow_and_stay_bounded(tries: int, draw: float) -> None:
    error = WireError("Overloaded", "no")
    now = pause_before_try(error, tries=tries, provider_failures=0, draw=draw)
    later = pause_before_try(error, tries=tries + 1, provider_failures=0, draw=draw)

    assert now is not None
    assert later is not None
    assert 0.5 <= now <= later <= MAX_PAUSE_S
