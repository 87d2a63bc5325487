"""A form is read the same however it is cut, and nothing but a form is read."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_api.bulk.multipart import Event, MultipartForm, PartBegins, PartEnds, PartPiece
from embedpool_shared.errors import BadRequest

TYPE = b"multipart/form-data; boundary=cut-here"


def part(name: str, content: bytes, *, filename: str | None = None, more: str = "") -> bytes:
    shown = "" if filename is None else f'; filename="{filename}"'
    head = f'--cut-here\r\nContent-Disposition: form-data; name="{name}"{shown}\r\n{more}\r\n'
    return head.encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--cut-here--\r\n"


def joined(events: list[Event]) -> list[Event]:
    """Join pieces that follow each other."""
    found: list[Event] = []
    for event in events:
        last = found[-1] if found else None
        if isinstance(event, PartPiece) and isinstance(last, PartPiece):
            found[-1] = PartPiece(last.content + event.content)
        else:
            found.append(event)
    return found


def read(body: bytes, *cuts: int) -> list[Event]:
    reader = MultipartForm(TYPE)
    events: list[Event] = []
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    for start, stop in pairwise(edges):
        events += reader.feed(body[start:stop])
    reader.end()
    return joined(events)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.binary(max_size=60)), max_size=3),
    st.lists(st.integers(0, 400), max_size=8),
    st.sampled_from([b"", b"\r\n", b"\r\n--cut", b"\r\n--cut-her", b"--cut-here"]),
)
def test_a_form_is_the_same_however_it_is_cut(
    parts: list[tuple[str, bytes]], cuts: list[int], near: bytes
) -> None:
    parts = [(name, content + near + b".") for name, content in parts]
    body = form(*(part(name, content) for name, content in parts))

    events = read(body, *cuts)

    expected: list[Event] = []
    for name, content in parts:
        expected += [PartBegins(name, None), PartPiece(content), PartEnds()]
    assert events == expected


def test_names_are_utf_8() -> None:
    begins = read(form(part("file", b"x", filename="Größe €.jsonl")))[0]

    assert begins == PartBegins("file", "Größe €.jsonl")


def test_a_part_may_be_empty() -> None:
    assert read(form(part("a", b""))) == [PartBegins("a", None), PartEnds()]


@pytest.mark.parametrize(
    "content_type",
    [
        b"",
        b"application/json",
        b"multipart/mixed; boundary=x",
        b"multipart/form-data",
        b"multipart/form-data; boundary=",
        b"multipart/form-data; boundary=" + b"x" * 1_000,
    ],
)
def test_what_is_no_form_is_refused(content_type: bytes) -> None:
    with pytest.raises(BadRequest):
        MultipartForm(content_type)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--cut-here\r\n",
        part("a", b"x"),
        form(part("a", b"x"))[:-5],
        b"nothing of the kind",
        b"--cut-here\r\nContent-Disposition: form-data\r\n\r\nx\r\n--cut-here--\r\n",
        b"--cut-here\r\n\r\nx\r\n--cut-here--\r\n",
        b"--cut-here\r\n" + b"x" * 100_000,
        form(part("a", b"x", more="Content-Transfer-Encoding: base64\r\n")),
    ],
    ids=lambda body: repr(body[-30:]),
)
def test_a_damaged_form_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        read(body)


def test_a_part_that_says_it_is_as_it_is_is_read() -> None:
    body = form(part("a", b"x", more="Content-Transfer-Encoding: Binary\r\n"))

    assert PartPiece(b"x") in read(body)


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=3))
def test_whatever_comes_in_is_read_or_refused(body: bytes, cuts: list[int]) -> None:
    try:
        read(body, *cuts)
    except BadRequest:
        return
    assert b"--cut-here--" in body
