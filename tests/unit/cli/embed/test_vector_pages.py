from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_cli.embed.compact_thrift import Kind, written
from embedpool_cli.embed.vector_pages import (
    MAX_HEADER_BYTES,
    PAGE_BYTES,
    Page,
    page_from,
    page_head,
    rows_of_page,
)


@given(st.integers(1, 2_000), st.integers(1, 8_192), st.sampled_from([2, 4]))
def test_a_page_says_how_many_rows_and_bytes_it_has(
    rows: int, dims: int, number_bytes: int
) -> None:
    head = page_head(rows, dims, number_bytes)

    page = page_from(head[:MAX_HEADER_BYTES], dims)

    assert page == Page(rows, len(head) + rows * dims * number_bytes)


@given(st.integers(1, 10_000_000), st.sampled_from([2, 4]))
def test_a_page_holds_a_row_at_least_and_little_more_than_its_size(
    dims: int, number_bytes: int
) -> None:
    rows = rows_of_page(dims, number_bytes)

    assert rows == 1 or rows * dims * number_bytes <= PAGE_BYTES
    assert (rows + 1) * dims * number_bytes > PAGE_BYTES


@pytest.mark.parametrize(
    "text", [b"", bytes(64), written({1: (Kind.I32, 0)}), written({5: (Kind.I32, 0)}), b"\xff" * 64]
)
def test_what_is_no_page_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"page|ends|Kind"):
        page_from(text, 4)
