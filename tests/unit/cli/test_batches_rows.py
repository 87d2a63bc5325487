from __future__ import annotations

from typing import Any

import pytest

from embedpool_cli.batches_rows import batch_lines, batch_table, failed_line, problem_lines
from unit.cli.fake_batches import a_batch, a_failed_line, an_unsent_line

CREATED: float = a_batch()["created_at"]


def row(now: float = CREATED, **fields: Any) -> dict[str, str]:
    """Show one batch and read its line by the columns."""
    head, line = batch_table([a_batch(**fields)], now=now)
    titles = head.split()
    starts = [head.index(title) for title in titles]
    return {
        title: line[start:end].strip()
        for title, start, end in zip(titles, starts, [*starts[1:], None], strict=True)
    }


def test_a_batchs_line_says_how_far_it_is_and_what_it_cost() -> None:
    assert row(CREATED + 90) == {
        "id": "batch_one",
        "status": "in_progress",
        "done": "1,200",
        "failed": "3",
        "total": "50,000",
        "tokens": "9,000",
        "cost": "$0.000180",
        "age": "90 s",
    }


def test_what_is_not_known_is_a_dash() -> None:
    shown = row(request_counts=None, usage=None, embedpool=None, created_at=None)

    assert {shown[title] for title in ("done", "failed", "total", "tokens", "cost", "age")} == {"-"}


@pytest.mark.parametrize(
    ("seconds", "age"),
    [
        (-60, "0 s"),
        (119.9, "119 s"),
        (120, "2 min"),
        (7_199, "119 min"),
        (7_200, "2 h"),
        (172_799, "47 h"),
        (172_800, "2 d"),
    ],
)
def test_an_age_is_told_in_the_largest_unit_of_which_there_are_two(
    seconds: float, age: str
) -> None:
    assert row(CREATED + seconds)["age"] == age


def test_all_that_happened_is_shown_in_the_order_it_happened() -> None:
    batch = a_batch(
        in_progress_at=CREATED + 1, completed_at=CREATED + 60, metadata={"run": "nightly\x1b[2J"}
    )

    titles = [line.split("  ")[0] for line in batch_lines(batch, now=CREATED)]
    shown = "\n".join(batch_lines(batch, now=CREATED))

    assert titles[-5:] == ["created", "in progress", "completed", "expires", "metadata run"]
    assert "2026-03-01 11:31:00 UTC" in shown
    assert "nightly\\x1b[2J" in shown
    assert "error file" not in shown
    assert "owner" not in shown


def test_the_holder_of_the_master_key_is_told_whose_a_batch_is() -> None:
    lines = batch_lines(a_batch(embedpool={"cost_usd": "0", "owner": "team:rag"}), now=CREATED)

    assert dict(line.split(maxsplit=1) for line in lines)["owner"] == "team:rag"


def test_an_instant_that_is_none_is_shown_as_it_is() -> None:
    (line,) = [
        line
        for line in batch_lines(a_batch(completed_at=10**20), now=0)
        if line.startswith("completed")
    ]

    assert line.endswith(str(10**20))


def test_a_problem_of_the_whole_file_has_no_line() -> None:
    problem = {"code": "empty_file", "message": "The file is empty", "line": None, "param": None}

    lines = list(problem_lines(a_batch(errors={"object": "list", "data": [problem]})))

    assert lines == ["The file is empty (empty_file)"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (a_failed_line("a", "bad\x1b[2J"), "a: bad\\x1b[2J (400 x)"),
        (an_unsent_line("b", "batch_cancelled"), "b: was not sent (batch_cancelled)"),
        ({}, ": "),
        ({"custom_id": "c", "response": {"status_code": 500, "body": "?"}}, "c:  (500)"),
    ],
)
def test_a_failed_line_says_which_and_why(line: dict[str, Any], said: str) -> None:
    assert failed_line(line) == said
