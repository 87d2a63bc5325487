"""A batch is checked as a whole before anything is sent, and all that is wrong is said at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from embedpool_shared.batches import LineProblem
from embedpool_shared.embedding.models import resolve
from embedpool_shared.errors import ModelNotAllowed
from embedpool_worker.bulk.validation import (
    GLANCE_LINES,
    MAX_PROBLEMS,
    SUSPECTS_AT_ONCE,
    Bounds,
    Validated,
    Validation,
)
from support.cards import CATALOG
from unit.worker.bulk.input_lines import MODEL, file_of, written

BOUNDS = Bounds(max_lines=50_000, max_inputs=50_000, max_line_bytes=2_000)


def result(
    file: bytes | Iterable[bytes], bounds: Bounds = BOUNDS, **more: Any
) -> Validated | list[LineProblem] | None:
    read = (lambda: [file]) if isinstance(file, bytes) else (lambda: file)
    more.setdefault("check_model", lambda name: resolve(CATALOG, name))
    return Validation(read, bounds, **more).result()


def problems(file: bytes, bounds: Bounds = BOUNDS, **more: Any) -> list[LineProblem]:
    found = result(file, bounds, **more)
    assert isinstance(found, list)
    assert found
    return found


def codes(found: Iterable[LineProblem]) -> list[tuple[int | None, str]]:
    return [(problem.line, problem.code) for problem in found]


def test_a_good_batch_is_counted_and_has_one_model() -> None:
    lines = [written("a", text="x"), written("b", text=["x", "y"]), written("c", text=[1, 2])]

    assert result(file_of(*lines)) == Validated(total=3, inputs=4, model=MODEL)


def test_what_is_wrong_with_a_body_is_not_the_batches_affair() -> None:
    lines = [written("a", text=""), written("b", text="word " * 300), written("c", text=None)]

    assert result(file_of(*lines)) == Validated(total=3, inputs=3, model=MODEL)


def test_every_line_that_is_wrong_is_named() -> None:
    lines = [written("a"), b"not JSON", written("b", url="/v1/x"), b"x" * 3_000, written("c")]

    assert codes(problems(file_of(*lines))) == [
        (2, "invalid_json_line"),
        (3, "invalid_url"),
        (4, "line_too_long"),
    ]


def test_line_17003_is_named_by_its_number() -> None:
    lines = [written(f"{number}") for number in range(1, 20_001)]
    lines[17_002] = lines[17_002][:-1]

    assert codes(problems(file_of(*lines))) == [(17_003, "invalid_json_line")]


@pytest.mark.parametrize("file", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_a_problem_of_no_line(file: bytes) -> None:
    assert codes(problems(file)) == [(None, "empty_file")]


def test_a_custom_id_that_occurs_again_names_both_lines() -> None:
    lines = [written("a"), written("b"), written("a"), written("c"), written("a")]

    found = problems(file_of(*lines))

    assert codes(found) == [(3, "duplicate_custom_id"), (5, "duplicate_custom_id")]
    assert all("line 1" in problem.message for problem in found)
    assert {problem.param for problem in found} == {"custom_id"}


def test_problems_of_all_kinds_come_in_the_order_of_the_file() -> None:
    lines = [written("a"), written("a"), b"not JSON", written("b", model="wordllama"), written("a")]

    assert codes(problems(file_of(*lines))) == [
        (2, "duplicate_custom_id"),
        (3, "invalid_json_line"),
        (4, "mismatched_model"),
        (5, "duplicate_custom_id"),
    ]


def test_a_line_for_another_model_than_the_first_is_named() -> None:
    lines = [written("a"), written("b", model="wordllama"), written("c", model=None), written("d")]

    found = problems(file_of(*lines))

    assert codes(found) == [(2, "mismatched_model"), (3, "mismatched_model")]
    assert "`wordllama`" in found[0].message
    assert f"`{MODEL}`" in found[0].message


def test_an_alias_is_another_name_even_of_the_same_model() -> None:
    lines = [written("a", model="small"), written("b", model=MODEL)]

    assert codes(problems(file_of(*lines))) == [(2, "mismatched_model")]
    assert result(lines[0]) == Validated(1, 1, "small")


def test_a_model_that_nobody_serves_is_said_once() -> None:
    lines = [written("a", model="gpt-9"), written("b", model="gpt-9")]

    assert codes(problems(file_of(*lines))) == [(1, "model_not_found")]


def test_a_model_that_the_key_may_not_use_is_said_as_the_route_says_it() -> None:
    def refuse(name: str) -> None:
        raise ModelNotAllowed(f"This key may not use the model `{name}`", param="model")

    (found,) = problems(written(), check_model=refuse)

    assert (found.code, found.param) == ("model_not_allowed", "body.model")
    assert found.message == f"This key may not use the model `{MODEL}`"


@pytest.mark.parametrize("model", [7, ["x"], {}, None, ""])
def test_a_body_without_a_model_is_named_unless_there_is_a_default(model: Any) -> None:
    line = written(body={"model": model, "input": "x"})

    assert codes(problems(line)) == [(1, "missing_required_parameter")]
    if model in (None, ""):
        assert result(line, default_model="wordllama") == Validated(1, 1, "wordllama")


def test_a_batch_is_as_long_as_it_may_be_and_one_line_more_is_too_much() -> None:
    bounds = BOUNDS._replace(max_lines=3)
    lines = [written(name) for name in "abcd"]

    assert result(file_of(*lines[:3]), bounds) == Validated(3, 3, MODEL)
    assert codes(problems(file_of(*lines), bounds)) == [(4, "too_many_tasks")]


def test_inputs_count_over_all_lines() -> None:
    bounds = BOUNDS._replace(max_inputs=4)
    lines = [written("a", text=["x", "y"]), written("b", text=["x", "y"]), written("c")]

    assert result(file_of(*lines[:2]), bounds) == Validated(2, 4, MODEL)
    assert codes(problems(file_of(*lines), bounds)) == [(3, "too_many_inputs")]


def test_nothing_is_read_behind_the_line_that_is_one_too_many() -> None:
    read = 0

    def chunks() -> Iterator[bytes]:
        nonlocal read
        while True:
            yield written(f"{read}") + b"\n"
            read += 1

    found = Validation(chunks, BOUNDS._replace(max_lines=5), check_model=str).result()

    assert isinstance(found, list)
    assert codes(found) == [(6, "too_many_tasks")]
    assert read <= 6


def test_no_more_than_a_hundred_problems_are_looked_for() -> None:
    read = 0

    def chunks() -> Iterator[bytes]:
        nonlocal read
        while True:
            yield b"not JSON\n"
            read += 1

    found = Validation(chunks, BOUNDS, check_model=str).result()

    assert isinstance(found, list)
    assert [problem.line for problem in found] == [*range(1, MAX_PROBLEMS + 1)]
    assert read <= MAX_PROBLEMS + 1


def test_a_file_that_begins_with_a_million_blank_lines_is_read_no_further_than_a_hundred() -> None:
    assert len(problems(b"\n" * 1_000_000 + written())) == MAX_PROBLEMS


def test_of_millions_of_doubles_a_hundred_are_named_with_few_names_in_memory() -> None:
    names = [f"{number}" for number in range(3 * SUSPECTS_AT_ONCE)]
    passes = 0

    def chunks() -> Iterable[bytes]:
        nonlocal passes
        passes += 1
        return [file_of(*map(written, names + names))]

    found = Validation(chunks, BOUNDS, check_model=str).result()

    assert isinstance(found, list)
    assert len(found) == MAX_PROBLEMS
    assert {problem.code for problem in found} == {"duplicate_custom_id"}
    assert passes == 2


def test_equal_hashes_of_different_names_are_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{number}" for number in range(3 * SUSPECTS_AT_ONCE)]
    passes = 0

    def chunks() -> Iterable[bytes]:
        nonlocal passes
        passes += 1
        return [file_of(*map(written, [*names, "last", "last"]))]

    validation = Validation(chunks, BOUNDS, check_model=str)
    monkeypatch.setattr(
        validation._seen,
        "_hash_of",
        lambda name: len(names) + int(name) // 2 if name.isdigit() else 0,
    )
    found = validation.result()

    assert isinstance(found, list)
    assert codes(found) == [(len(names) + 2, "duplicate_custom_id")]
    assert passes == 1 + -(-(len(names) // 2 + 1) // SUSPECTS_AT_ONCE)


def test_a_good_file_is_read_once() -> None:
    reads: list[bytes] = []

    def chunks() -> Iterable[bytes]:
        reads.append(b"")
        return [written("a"), b"\n", written("b")]

    assert Validation(chunks, BOUNDS, check_model=str).result() == Validated(2, 2, MODEL)
    assert len(reads) == 1


@pytest.mark.parametrize("passes", [0, 1], ids=["first", "second"])
def test_it_stops_when_told_to_in_the_first_pass_and_in_the_second(passes: int) -> None:
    total = 20 * GLANCE_LINES
    stop_at = passes * total + 3 * GLANCE_LINES
    read = 0

    def chunks() -> Iterator[bytes]:
        nonlocal read
        for number in range(total):
            yield written(f"{number % (total - 1)}") + b"\n"
            read += 1

    found = Validation(chunks, BOUNDS, check_model=str, is_stopped=lambda: read >= stop_at).result()

    assert found is None
    assert stop_at <= read < stop_at + 2 * GLANCE_LINES
