"""What a key's hash says, as an operator reads it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_shared.provider_keys import (
    GRAIN_MS,
    WINDOW_MS,
    KeyCondition,
    key_state,
    shown_part,
)

NOW_MS = 1_700_000_000_000


@given(st.text(max_size=60))
def test_of_a_secret_four_characters_are_shown_at_most_and_of_a_short_one_none(
    secret: str,
) -> None:
    shown = shown_part(secret)

    assert len(shown) <= 5
    assert len(secret) >= 20 or shown == "…"


@pytest.mark.parametrize(
    ("fields", "condition", "rests_for_s", "reason"),
    [
        ({}, KeyCondition.READY, 0.0, ""),
        (
            {"cooling_until": NOW_MS + 1_500, "reason": "throttled"},
            KeyCondition.COOLING,
            1.5,
            "throttled",
        ),
        (
            {"cooling_until": NOW_MS + 1_500, "reason": "failing"},
            KeyCondition.OPEN,
            1.5,
            "failing",
        ),
        ({"cooling_until": NOW_MS, "reason": "throttled"}, KeyCondition.READY, 0.0, ""),
        (
            {"retired_until": f"{NOW_MS + 9_000}.000", "cooling_until": NOW_MS + 1},
            KeyCondition.RETIRED,
            9.0,
            "",
        ),
    ],
    ids=["nothing known", "cooling", "open", "rested", "retired"],
)
def test_a_keys_condition_is_read(
    fields: dict[str, object], condition: KeyCondition, rests_for_s: float, reason: str
) -> None:
    state = key_state("k", {n.encode(): str(v).encode() for n, v in fields.items()}, now_ms=NOW_MS)

    assert (state.condition, state.rests_for_s, state.reason) == (condition, rests_for_s, reason)


def test_only_what_still_counts_is_used() -> None:
    now = NOW_MS // GRAIN_MS
    old = now - WINDOW_MS // GRAIN_MS - 1
    fields = {f"w:{old}": "5 500", f"w:{old + 1}": "3 300", f"w:{now}": "1 100"}
    fields |= {"rpm": "60", "tpm": "1000", "held_requests": "10"}
    fields |= {"held_requests_until": f"{NOW_MS + 1}"}

    state = key_state("k", {n.encode(): v.encode() for n, v in fields.items()}, now_ms=NOW_MS)

    assert (state.used_requests, state.used_tokens) == (14, 400)
    assert (state.remaining_requests, state.remaining_tokens) == (46, 600)


def test_only_workers_heard_of_lately_count() -> None:
    listed = f"{NOW_MS + 1} 3 host:1;{NOW_MS} 5 host:2;{NOW_MS + 2_000} 1 a b;"

    state = key_state("k", {b"workers": listed.encode()}, now_ms=NOW_MS)

    assert (state.workers, state.in_flight) == (2, 4)
