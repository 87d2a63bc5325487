"""The table of metrics obeys Prometheus' conventions, and means what the rest of the code means."""

from __future__ import annotations

import re

import pytest

from embedpool_shared.jobs import LaneClass
from embedpool_shared.measures import (
    CLASS,
    COUNT_EDGES,
    KEY_STATE,
    LATENCY_OBJECTIVE_S,
    MEASURES,
    RATIO_EDGES,
    SECONDS_EDGES,
    Combine,
    Kind,
    Measure,
    Role,
    measure,
    measures_of,
)
from embedpool_shared.provider_keys import KeyCondition

CALLERS_OWN = {"user", "request", "request_id", "end_user", "tag", "ip", "error", "message", "path"}


def named(one: Measure) -> str:
    return one.name


def test_no_two_metrics_share_a_series() -> None:
    series = [name for one in MEASURES for name in one.series]

    assert len(series) == len(set(series))


@pytest.mark.parametrize("one", MEASURES, ids=named)
def test_a_name_is_ours_and_well_formed(one: Measure) -> None:
    assert re.fullmatch(r"embedpool_[a-z]+(_[a-z]+)*", one.name)
    assert one.name.endswith("_total") == (one.kind is Kind.COUNTER)


@pytest.mark.parametrize("one", MEASURES, ids=named)
def test_a_time_is_in_seconds_and_a_share_is_a_ratio(one: Measure) -> None:
    if one.buckets == SECONDS_EDGES:
        assert one.name.endswith("_seconds")
    if one.buckets == RATIO_EDGES:
        assert one.name.endswith("_ratio")
    assert not re.search(r"_(ms|millis|minutes|percent|kb|mb)(_|$)", one.name)


@pytest.mark.parametrize("one", MEASURES, ids=named)
def test_a_metric_says_what_it_is_in_a_sentence(one: Measure) -> None:
    assert one.help[0].isupper() or one.help[0].isdigit()
    assert one.help.endswith(".")
    assert "\n" not in one.help


@pytest.mark.parametrize("one", MEASURES, ids=named)
def test_labels_are_distinct_well_formed_and_no_callers_own(one: Measure) -> None:
    assert len(set(one.label_names)) == len(one.labels)
    assert all(re.fullmatch(r"[a-z]+", name) for name in one.label_names)
    assert not CALLERS_OWN & set(one.label_names)
    assert all(len(set(label.values)) == len(label.values) for label in one.labels)


@pytest.mark.parametrize("one", MEASURES, ids=named)
def test_a_histogram_and_only_it_has_rising_edges(one: Measure) -> None:
    assert bool(one.buckets) == (one.kind is Kind.HISTOGRAM)
    assert list(one.buckets) == sorted(set(one.buckets))


@pytest.mark.parametrize("one", MEASURES, ids=named)
def test_only_a_gauge_may_be_anything_but_a_sum_over_processes(one: Measure) -> None:
    assert one.kind is Kind.GAUGE or one.combine is Combine.SUM


@pytest.mark.parametrize("one", [one for one in MEASURES if one.role is Role.BOTH], ids=named)
def test_what_both_roles_expose_says_whose_it_is(one: Measure) -> None:
    assert "role" in one.label_names


def test_the_objective_is_an_edge() -> None:
    assert LATENCY_OBJECTIVE_S in SECONDS_EDGES


def test_counts_reach_as_far_as_a_request_may() -> None:
    assert COUNT_EDGES[0] == 1
    assert COUNT_EDGES[-1] == 2_048


def test_the_states_of_a_key_are_those_it_can_be_in() -> None:
    assert set(KEY_STATE.values) == {condition.value for condition in KeyCondition}


def test_the_classes_are_those_of_lanes() -> None:
    assert [name[0] for name in CLASS.values] == [lane_class.value for lane_class in LaneClass]


@pytest.mark.parametrize("role", [Role.API, Role.WORKER])
def test_a_role_exposes_its_own_and_what_both_do(role: Role) -> None:
    assert {one.role for one in measures_of(role)} == {role, Role.BOTH}


def test_a_metric_is_found_by_its_name_without_the_prefix() -> None:
    assert measure("call_seconds").series == (
        "embedpool_call_seconds_bucket",
        "embedpool_call_seconds_sum",
        "embedpool_call_seconds_count",
    )
    with pytest.raises(KeyError):
        measure("call_minutes")
