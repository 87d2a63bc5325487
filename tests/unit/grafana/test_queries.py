"""Expressions are built from the table of metrics, and cannot name what it lacks."""

from __future__ import annotations

import pytest

from embedpool_grafana.queries import Query, least, mean, now, quantile, rate, selector

EVERYWHERE = 'cluster=~"$cluster", namespace=~"$namespace", job=~"$job"'


def test_a_selector_obeys_every_variable_its_metric_has_a_label_for() -> None:
    assert selector("commit_seconds", part="count") == (
        f"embedpool_commit_seconds_count{{{EVERYWHERE}}}"
    )
    assert selector("queue_items") == f'embedpool_queue_items{{{EVERYWHERE}, model=~"$model"}}'


@pytest.mark.parametrize(
    "matcher", ['colour="red"', 'colour!="red"', 'colour=~"r.*"', 'colour!~"r"']
)
def test_a_label_the_metric_lacks_is_an_error(matcher: str) -> None:
    with pytest.raises(ValueError, match="has no label colour"):
        selector("queue_items", matcher)


def test_a_metric_the_table_lacks_is_an_error() -> None:
    with pytest.raises(KeyError):
        rate("requests_lost_total")


def test_a_histogram_is_used_by_its_parts_and_nothing_else_is() -> None:
    with pytest.raises(ValueError, match="is a histogram"):
        rate("call_seconds")
    with pytest.raises(ValueError, match="is a gauge"):
        least("queue_items", 'model="m"').join(rate("queue_items", part="sum"))


def test_what_every_target_shows_is_taken_once_for_each_pool() -> None:
    assert now("workers_alive") == (
        f"sum (max by (cluster, namespace) (embedpool_workers_alive{{{EVERYWHERE}}}))"
    )


def test_what_targets_share_out_is_added_up() -> None:
    assert now("requests_in_flight") == f"sum (embedpool_requests_in_flight{{{EVERYWHERE}}})"


def test_a_quantile_keeps_the_labels_it_is_grouped_by() -> None:
    expr = quantile(0.99, "event_loop_lag_seconds", by="role")

    assert expr.startswith("histogram_quantile(0.99, sum by (role, le) (rate(")


def test_a_mean_divides_the_sum_by_the_count() -> None:
    before, _, after = mean("call_items").partition(" / ")

    assert "embedpool_call_items_sum" in before
    assert "embedpool_call_items_count" in after


def test_a_query_over_the_whole_range_is_asked_once() -> None:
    assert Query("increase(x[$__range])").is_instant
    assert Query("sum_over_time(x[30d])").is_instant
    assert not Query("rate(x[$__rate_interval])").is_instant
