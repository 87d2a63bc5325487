"""Numbers in memory: what is added is what is there, by metric and labels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_shared.measures import COUNT_EDGES, SECONDS_EDGES
from embedpool_shared.telemetry.meters import Meters, Spread


@given(st.lists(st.floats(0, 100, allow_nan=False)))
def test_every_value_is_counted_once_below_the_first_edge_not_smaller_than_it(
    values: list[float],
) -> None:
    spread = Spread(SECONDS_EDGES)

    for value in values:
        spread.note(value)

    below = [sum(value <= edge for value in values) for edge in SECONDS_EDGES]
    assert [sum(spread.counts[: at + 1]) for at in range(len(SECONDS_EDGES))] == below
    assert sum(spread.counts) == len(values)
    assert spread.total == pytest.approx(sum(values))


def test_the_same_labels_are_the_same_instrument() -> None:
    refusals = Meters().counts("refusals_total")

    refusals.of("rpm").add()
    refusals.of("rpm").add(2)
    refusals.of("tpm").add()

    assert {labels: one.value for labels, one in refusals.members.items()} == {
        ("rpm",): 3,
        ("tpm",): 1,
    }


def test_a_wrong_number_of_labels_is_a_bug() -> None:
    with pytest.raises(ValueError, match="reason"):
        Meters().counts("refusals_total").of("rpm", "m")


def test_a_metric_is_made_once_and_as_what_the_table_says() -> None:
    meters = Meters()
    meters.spreads("call_items")

    with pytest.raises(ValueError, match="already"):
        meters.spreads("call_items")
    with pytest.raises(ValueError, match="counter"):
        meters.levels("refusals_total")
    with pytest.raises(KeyError):
        meters.counts("nobody_knows_total")


def test_a_histogram_has_the_edges_of_the_table() -> None:
    assert Meters().spreads("call_items").of("m").edges == COUNT_EDGES
