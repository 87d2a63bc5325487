from __future__ import annotations

from typing import Any

import pytest

from embedpool_cli.key_rows import key_lines, key_table
from unit.cli.fake_pool import a_key


def row(**fields: Any) -> dict[str, str]:
    """Show one key and read its line by the columns."""
    head, line = key_table([a_key(**fields)])
    titles = head.split()
    starts = [head.index(title) for title in titles]
    return {
        title: line[start:end].strip()
        for title, start, end in zip(titles, starts, [*starts[1:], None], strict=True)
    }


def test_a_key_without_limits_may_do_everything_for_ever() -> None:
    assert row() == {
        "alias": "ci",
        "id": "id-of-ci",
        "key": "sk-ep-...abcd",
        "models": "all",
        "limits": "none",
        "spent": "$0.00",
        "expires": "never",
        "blocked": "no",
    }


def test_a_keys_limits_are_in_its_line() -> None:
    shown = row(
        models=["a", "b", "c", "d", "e"],
        rpm_limit=10,
        tpm_limit=0,
        max_parallel_requests=3,
        max_budget=1_250.0,
        budget_duration="30d",
        spend=77.0,
        budget_spend=0.0000123,
        expires="2026-03-01T12:30:00+01:00",
        blocked=True,
    )

    assert shown["models"] == "a, b, c, 2 more"
    assert shown["limits"] == "rpm 10, tpm 0, parallel 3"
    assert shown["spent"] == "$0.000012 of $1,250.00 in 30d"
    assert shown["expires"] == "2026-03-01 11:30 UTC"
    assert shown["blocked"] == "yes"


@pytest.mark.parametrize(
    ("expires", "shown"),
    [
        (None, "never"),
        (1_772_364_600, "2026-03-01 11:30 UTC"),
        ("2026-03-01T11:30:00Z", "2026-03-01 11:30 UTC"),
        ("2026-03-01 11:30:00", "2026-03-01 11:30 UTC"),
        ("soon", "soon"),
        (1e300, "1e+300"),
    ],
)
def test_an_instant_is_shown_in_utc_to_the_minute(expires: object, shown: str) -> None:
    assert row(expires=expires)["expires"] == shown


@pytest.mark.parametrize(
    ("spend", "shown"),
    [(0, "$0.00"), (0.5, "$0.50"), (0.123456789, "$0.123457"), (1.005, "$1.00"), (None, "$0.00")],
)
def test_money_has_two_decimals_and_small_money_six(spend: float | None, shown: str) -> None:
    assert row(spend=spend)["spent"] == shown


def test_a_name_given_by_somebody_moves_no_cursor() -> None:
    (_, line) = key_table([a_key("\x1b[2J", models=["m\r"])])

    assert "\x1b" not in line
    assert "\\x1b[2J" in line
    assert "m\\r" in line


def test_all_that_is_known_is_a_fact_a_line() -> None:
    key = a_key(models=["a", "b", "c", "d"], team_id="t-1", tags=["x", "y"], metadata={"a": 1})

    lines = dict(line.split(maxsplit=1) for line in key_lines(key))

    assert lines["models"] == "a, b, c, d"
    assert (lines["team"], lines["tags"], lines["metadata"]) == ("t-1", "x, y", '{"a": 1}')
    assert "user" not in lines


def test_a_budget_is_measured_by_what_was_spent_in_its_period() -> None:
    assert row(spend=9, budget_spend=2, max_budget=5)["spent"] == "$2.00 of $5.00"
    assert row(spend=9, max_budget=5)["spent"] == "$9.00 of $5.00"
    assert row(spend=9, budget_spend=9)["spent"] == "$9.00"


def test_a_fresh_key_is_shown_whole() -> None:
    lines = dict(line.split(maxsplit=1) for line in key_lines(a_key(), secret="sk-ep-secret"))

    assert lines["key"] == "sk-ep-secret"
