"""A run that crashes begins again; one that never comes further gives up."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from embedpool_shared.batches import LineProblem
from embedpool_shared.errors import QueueUnavailable
from embedpool_worker.bulk.booking import OutOfStep, Superseded
from embedpool_worker.bulk.persevering import MAX_CRASHES, see_through
from support.virtual_time import in_virtual_time


class Script:
    """Runs that come so far and end so, one after the other; the last one repeats."""

    def __init__(self, *endings: tuple[int, Exception | None]) -> None:
        self.endings: Sequence[tuple[int, Exception | None]] = endings
        self.runs = 0
        self.problems: list[LineProblem] = []

    def make(self) -> ScriptedRun:
        line, error = self.endings[min(self.runs, len(self.endings) - 1)]
        self.runs += 1
        return ScriptedRun(self, line, error)


class ScriptedRun:
    """One of them."""

    def __init__(self, script: Script, line: int, error: Exception | None) -> None:
        self.line = line
        self._script = script
        self._error = error

    async def run(self) -> None:
        if self._error is not None:
            raise self._error

    async def fail(self, problem: LineProblem) -> None:
        self._script.problems.append(problem)


def seen_through(*endings: tuple[int, Exception | None]) -> Script:
    script = Script(*endings)
    in_virtual_time(see_through(script.make, "b"))
    return script


def test_a_run_that_ends_is_the_end() -> None:
    assert seen_through((5, None)).runs == 1


def test_a_crash_is_tried_again() -> None:
    script = seen_through((5, ValueError()), (7, OutOfStep("x")), (9, None))

    assert (script.runs, script.problems) == (3, [])


def test_crashes_at_the_same_line_end_the_batch() -> None:
    script = seen_through((5, ValueError()))

    assert script.runs == MAX_CRASHES
    assert [(one.code, one.line) for one in script.problems] == [("internal_error", 6)]


def test_crashes_before_the_first_line_end_the_batch_without_one() -> None:
    script = seen_through((-1, ValueError()))

    assert (script.runs, script.problems[0].line) == (MAX_CRASHES, None)


def test_a_run_that_comes_further_each_time_is_given_all_the_time() -> None:
    crashes = [(n, ValueError()) for n in range(3 * MAX_CRASHES)]

    script = seen_through(*crashes, (99, None))

    assert (script.runs, script.problems) == (len(crashes) + 1, [])


def test_a_batch_that_is_somebody_elses_is_left_alone() -> None:
    assert seen_through((5, Superseded("x"))).runs == 1


def test_redis_away_is_no_crash() -> None:
    away = [(5, QueueUnavailable("away"))] * (2 * MAX_CRASHES)

    script = seen_through(*away, (5, None))

    assert (script.runs, script.problems) == (len(away) + 1, [])


@pytest.mark.parametrize("crashes", [MAX_CRASHES - 1])
def test_fewer_crashes_than_that_are_forgiven(crashes: int) -> None:
    script = seen_through(*[(5, ValueError())] * crashes, (9, None))

    assert script.problems == []
