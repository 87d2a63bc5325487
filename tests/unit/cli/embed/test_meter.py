from __future__ import annotations

import pytest

from embedpool_cli.embed import meter
from embedpool_cli.embed.journal import Progress
from embedpool_cli.embed.meter import Reading, duration

NOW = Progress(rows_in=3_000, rows_out=2_990, rejected=10, tokens=9_000, spent_pico_usd=2 * 10**12)


def reading(share: float | None = 0.6, *, trouble: str = "") -> Reading:
    return Reading(
        progress=NOW, rows_before=1_000, elapsed_s=4.0, share=share, share_before=0.2,
        trouble=trouble,
    )  # fmt: skip


def test_a_line_says_how_far_how_fast_how_dear_and_how_long() -> None:
    assert meter.line(reading()) == (
        " 60% · 3,000 rows · 500 texts/s · 9,000 tokens · $2.00 · 10 rejected · 4 s left"
    )


def test_of_an_endless_input_no_end_is_foretold() -> None:
    said = meter.line(reading(None))

    assert "left" not in said
    assert "%" not in said


def test_a_run_that_stands_still_says_why() -> None:
    assert "waiting: the queue is full" in meter.line(reading(trouble="the queue is full"))


def test_a_bar_fits_the_terminal() -> None:
    assert meter.bar(reading(), 30) == "[##############..........]  60"


def test_the_end_accounts_for_every_row() -> None:
    said = meter.balance(NOW, rejects="r.jsonl")

    assert said.startswith("3,000 rows in = 2,990 out + 10 rejected (r.jsonl) · 9,000 tokens")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(3.4, "3 s"), (61, "1 min 01 s"), (59.7, "1 min 00 s"), (7_320, "2 h 02 min")],
)
def test_times_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said
