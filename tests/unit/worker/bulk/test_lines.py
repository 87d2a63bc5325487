"""A file is cut into numbered lines, and of each line the envelope is read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_shared.batches import LineProblem
from embedpool_worker.bulk.lines import (
    MAX_ID_LETTERS,
    Asked,
    RawLine,
    _Unfinished,
    asked,
    cut,
    inputs_in,
)
from unit.worker.bulk.input_lines import written

MAX = 1_000


def all_of(*chunks: bytes, max_line_bytes: int = MAX, **begin: int) -> list[RawLine]:
    return list(cut(chunks, max_line_bytes=max_line_bytes, **begin))


def in_chunks(text: bytes, size: int) -> list[bytes]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def problem(text: bytes | None) -> LineProblem:
    found = asked(RawLine(7, text, 0), max_line_bytes=MAX)
    assert isinstance(found, LineProblem)
    assert found.line == 7
    assert found.message.endswith(".")
    return found


texts = st.lists(st.binary(min_size=1, max_size=12).map(lambda b: b"x" + b.replace(b"\n", b"y")))


@given(texts, st.integers(1, 9), st.sampled_from([b"\n", b"\r\n"]), st.booleans())
def test_lines_are_numbered_from_one_and_each_says_where_the_next_begins(
    wanted: list[bytes], size: int, end: bytes, ends: bool
) -> None:
    wanted = [line.rstrip(b"\r") for line in wanted]
    file = end.join(wanted) + (end if ends else b"")

    lines = all_of(*in_chunks(file, size))

    assert [line.text for line in lines] == wanted
    assert [line.number for line in lines] == [*range(1, len(wanted) + 1)]
    assert [line.end_offset for line in lines][-1:] == [len(file)][: len(wanted)]
    for line in lines:
        rest = file[line.end_offset :]
        begin = {"offset": line.end_offset, "number": line.number}
        assert all_of(*in_chunks(rest, size), **begin) == lines[line.number :]


@given(texts, st.integers(1, 5), st.sampled_from([b"\n", b"\r\n", b" \n", b"\t\r\n"]))
def test_blank_lines_at_the_end_do_not_count(
    wanted: list[bytes], blanks: int, blank: bytes
) -> None:
    wanted = [line.rstrip(b"\r") for line in wanted]
    file = b"".join(line + b"\n" for line in wanted)

    assert all_of(file, blank * blanks) == all_of(file)


def test_a_blank_line_before_another_one_is_a_line() -> None:
    lines = all_of(b"a\n\n  \r\nb\nc")

    assert [(line.number, line.text) for line in lines] == [
        (1, b"a"),
        (2, b""),
        (3, b""),
        (4, b"b"),
        (5, b"c"),
    ]
    assert problem(b"").code == "invalid_json_line"


@pytest.mark.parametrize("file", [b"", b"\n\n", b" \r\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n"])
def test_a_file_of_nothing_has_no_line(file: bytes) -> None:
    assert all_of(file) == []


def test_a_byte_order_mark_is_no_part_of_the_first_line_and_nothing_elsewhere() -> None:
    mark = b"\xef\xbb\xbf"

    assert [line.text for line in all_of(mark[:2], mark[2:] + b"a\n" + mark + b"b")] == [
        b"a",
        mark + b"b",
    ]
    assert all_of(mark + b"b", offset=5, number=1)[0].text == mark + b"b"


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""], ids=repr)
def test_a_line_is_as_long_as_it_may_be_whatever_is_around_it(end: bytes) -> None:
    file = b"\xef\xbb\xbf" + b"x" * 10 + end

    assert [line.text for line in all_of(*in_chunks(file, 3), max_line_bytes=10)] == [b"x" * 10]
    assert [line.text for line in all_of(*in_chunks(file, 3), max_line_bytes=9)] == [None]


def test_a_line_that_is_too_long_is_one_problem_and_the_next_one_is_good() -> None:
    lines = all_of(*in_chunks(b"a\n" + b"x" * 5_000 + b"\nb\n", 64))

    assert [(line.number, line.text) for line in lines] == [(1, b"a"), (2, None), (3, b"b")]
    assert lines[1].end_offset == 2 + 5_001
    assert problem(None).code == "line_too_long"


def test_of_a_line_that_is_too_long_nothing_is_kept() -> None:
    line = _Unfinished(MAX)

    for _ in range(100):
        line.add(b"x" * 64)
        assert sum(map(len, line._pieces)) <= MAX + 4

    assert line.taken() == (None, 6_400)


def test_a_good_line_is_read() -> None:
    found = asked(RawLine(3, written("id-3", model="m"), 99), max_line_bytes=MAX)

    assert found == Asked(3, "id-3", {"model": "m", "input": "x"})


@pytest.mark.parametrize(
    ("text", "code", "param"),
    [
        (b"not JSON", "invalid_json_line", None),
        (b'{"custom_id": "a"', "invalid_json_line", None),
        (b"\xff{}", "invalid_json_line", None),
        (b"[" * 500, "invalid_json_line", None),
        (b"[]", "invalid_json_line", None),
        (b"null", "invalid_json_line", None),
        (b"{}", "missing_required_parameter", "custom_id"),
        (written(None), "missing_required_parameter", "custom_id"),
        (written(""), "invalid_custom_id", "custom_id"),
        (written(7), "invalid_custom_id", "custom_id"),
        (written("x" * (MAX_ID_LETTERS + 1)), "invalid_custom_id", "custom_id"),
        (written(method=None), "missing_required_parameter", "method"),
        (written(method="GET"), "invalid_method", "method"),
        (written(method=["POST"]), "invalid_method", "method"),
        (written(url=None), "missing_required_parameter", "url"),
        (written(url="/v1/chat/completions"), "invalid_url", "url"),
        (written(url={}), "invalid_url", "url"),
        (written(body=None), "missing_required_parameter", "body"),
        (written(body="x"), "invalid_body", "body"),
        (written(body=[]), "invalid_body", "body"),
    ],
)
def test_what_is_wrong_with_an_envelope_has_a_code_and_a_place(
    text: bytes, code: str, param: str | None
) -> None:
    found = problem(text)

    assert (found.code, found.param) == (code, param)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_line_or_a_problem(text: bytes) -> None:
    assert isinstance(asked(RawLine(1, text, 0), max_line_bytes=MAX), Asked | LineProblem)


@pytest.mark.parametrize(
    ("value", "count"),
    [
        ("x", 1),
        (["x", "y"], 2),
        ([1, 2, 3], 1),
        ([[1], [2], [3]], 3),
        ([], 1),
        (None, 1),
        (7, 1),
        ({}, 1),
    ],
)
def test_inputs_are_counted_as_the_embeddings_route_would_read_them(value: Any, count: int) -> None:
    assert inputs_in({"input": value}) == count
