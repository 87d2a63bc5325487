"""An uploaded form is one file and what it is for, in any order, and no more than it may be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_api.bulk.intake import MAX_AROUND_BYTES, Intake, Taken, sane_name
from embedpool_api.bulk.multipart import MultipartForm
from embedpool_shared.batches import FILES_LIVE_S
from embedpool_shared.errors import BadRequest, BodyTooLarge
from unit.api.test_bulk_multipart import TYPE, form, part

FILE = part("file", b"content", filename="in.jsonl")
PURPOSE = part("purpose", b"batch")


def take(body: bytes, *, max_file_bytes: int = 100, step: int = 7) -> tuple[Taken, bytes]:
    kept: list[bytes] = []
    intake = Intake(MultipartForm(TYPE), kept.append, max_file_bytes=max_file_bytes)
    for start in range(0, len(body), step):
        intake.take(body[start : start + step])
    return intake.done(), b"".join(kept)


def lives(seconds: bytes, anchor: bytes = b"created_at") -> bytes:
    return part("expires_after[anchor]", anchor) + part("expires_after[seconds]", seconds)


@pytest.mark.parametrize("body", [FILE + PURPOSE, PURPOSE + FILE], ids=["file first", "file last"])
@pytest.mark.parametrize("step", [1, 7, 1_000])
def test_a_file_and_its_purpose_come_in_any_order(body: bytes, step: int) -> None:
    taken, kept = take(form(body), step=step)

    assert taken == Taken("in.jsonl", 7, FILES_LIVE_S)
    assert kept == b"content"


def test_a_file_without_a_name_gets_one() -> None:
    assert take(form(part("file", b"x"), PURPOSE))[0].filename == "file"


def test_a_file_may_be_exactly_as_large_as_allowed() -> None:
    whole = part("file", b"x" * 100, filename="f")

    assert take(form(PURPOSE, whole), max_file_bytes=100)[0].size_bytes == 100
    with pytest.raises(BodyTooLarge, match="99"):
        take(form(PURPOSE, whole), max_file_bytes=99)


def test_a_file_is_refused_while_it_comes_in() -> None:
    kept: list[bytes] = []
    intake = Intake(MultipartForm(TYPE), kept.append, max_file_bytes=10)

    with pytest.raises(BodyTooLarge):
        intake.take(part("file", b"x" * 11, filename="f"))

    assert kept == []


def test_a_body_that_is_not_its_file_ends_as_well() -> None:
    intake = Intake(MultipartForm(TYPE), lambda _: None, max_file_bytes=10)
    intake.take(form(part("file", b"x" * 10, filename="f"), PURPOSE))
    left_bytes = 10 + MAX_AROUND_BYTES - intake.body_bytes
    intake.take(b"x" * left_bytes)

    with pytest.raises(BodyTooLarge):
        intake.take(b"x")


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        (form(PURPOSE), "file", "missing"),
        (form(FILE), "purpose", "batch"),
        (form(FILE, part("purpose", b"batches")), "purpose", "'batch'"),
        (form(FILE, part("purpose", b"")), "purpose", "'batch'"),
        (form(FILE, FILE, PURPOSE), "file", "twice"),
        (form(FILE, PURPOSE, PURPOSE), "purpose", "twice"),
        (form(part("file", b"", filename="f"), PURPOSE), "file", "empty"),
        (form(FILE, part("purpos", b"batch")), "purpos", "did you mean `purpose`?"),
        (form(FILE, part("x" * 200, b"batch")), "x" * 64, "`file` and `purpose`"),
        (form(FILE, part("purpose", b"x" * 2_000)), "purpose", "longer"),
        (form(FILE, PURPOSE, lives(b"3599")), "expires_after[seconds]", "3600"),
        (form(FILE, PURPOSE, lives(b"2592001")), "expires_after[seconds]", "2592000"),
        (form(FILE, PURPOSE, lives(b"1e9")), "expires_after[seconds]", "2592000"),
        (form(FILE, PURPOSE, lives(b"9" * 500)), "expires_after[seconds]", "2592000"),
        (form(FILE, PURPOSE, lives(b"3600", b"now")), "expires_after[anchor]", "created_at"),
        (
            form(FILE, PURPOSE, part("expires_after[seconds]", b"3600")),
            "expires_after[anchor]",
            "created_at",
        ),
    ],
)
def test_what_is_wrong_is_named(body: bytes, param: str, said: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        take(body)

    assert refusal.value.param == param
    assert said in refusal.value.message


@pytest.mark.parametrize("seconds", [3_600, 86_400, 2_592_000])
def test_a_file_lives_as_long_as_is_said(seconds: int) -> None:
    body = form(FILE, PURPOSE, lives(str(seconds).encode()))

    assert take(body)[0].lives_s == seconds


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("in.jsonl", "in.jsonl"),
        ("../../etc/passwd", "passwd"),
        ("C:\\files\\in.jsonl", "in.jsonl"),
        ("in\r\nx: y.jsonl", "inx: y.jsonl"),
        ("\x00\u202e", "file"),
        ("", "file"),
        ("folder/", "file"),
        ("ü" * 300, "ü" * 255),
    ],
)
def test_a_name_is_no_path_and_printable(said: str, kept: str) -> None:
    assert sane_name(said) == kept


@given(st.text(max_size=400))
def test_any_name_becomes_a_sane_one(said: str) -> None:
    name: Any = sane_name(said)

    assert 0 < len(name) <= 255
    assert name.isprintable()
    assert "/" not in name
    assert sane_name(name) in {name, name.strip()}
