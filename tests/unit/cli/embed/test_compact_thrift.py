from __future__ import annotations

from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_cli.embed.compact_thrift import Items, Kind, Struct, read_struct, varint, written

INT64 = st.integers(-(2**63), 2**63 - 1)
VALUES = {
    Kind.BYTE: st.integers(0, 255),
    Kind.I16: st.integers(-(2**15), 2**15 - 1),
    Kind.I32: st.integers(-(2**31), 2**31 - 1),
    Kind.I64: INT64,
    Kind.DOUBLE: st.binary(min_size=8, max_size=8),
    Kind.BINARY: st.binary(max_size=300),
}
FLAGS = st.booleans().map(lambda flag: (Kind.TRUE if flag else Kind.FALSE, flag))
NUMBERS = st.integers(-(2**15), 2**15 - 1) | st.integers(1, 20)


def lists_of(kind: Kind, values: st.SearchStrategy[object]) -> st.SearchStrategy[Items]:
    return st.lists(values, max_size=20).map(lambda found: Items(kind, found))


def plain_fields() -> list[st.SearchStrategy[tuple[Kind, object]]]:
    fields = [st.tuples(st.just(kind), values) for kind, values in VALUES.items()]
    lists = [lists_of(kind, values) for kind, values in VALUES.items()]
    lists.append(lists_of(Kind.TRUE, st.booleans()))
    return [*fields, FLAGS, *(st.tuples(st.just(Kind.LIST), one) for one in lists)]


STRUCTS = st.recursive(
    st.dictionaries(NUMBERS, st.one_of(plain_fields()), max_size=4),
    lambda structs: st.dictionaries(
        NUMBERS,
        st.tuples(st.just(Kind.STRUCT), structs)
        | st.tuples(st.just(Kind.LIST), lists_of(Kind.STRUCT, structs)),
        max_size=4,
    ),
    max_leaves=12,
)


@given(STRUCTS, st.binary(max_size=5), st.binary(max_size=5))
def test_what_is_written_reads_back_from_wherever_it_stands(
    struct: Struct, before: bytes, after: bytes
) -> None:
    text = written(struct)

    assert read_struct(before + text + after, len(before)) == (struct, len(before) + len(text))


@given(STRUCTS, st.data())
def test_what_breaks_off_is_refused(struct: Struct, data: st.DataObject) -> None:
    text = written(struct)
    length = data.draw(st.integers(0, len(text) - 1))

    with pytest.raises(ValueError, match="ends inside"):
        read_struct(text[:length])


def test_a_kind_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="13"):
        read_struct(b"\x1d\x00")


@pytest.mark.parametrize(("number", "text"), [(0, "00"), (127, "7f"), (128, "8001"), (300, "ac02")])
def test_numbers_are_written_seven_bits_to_a_byte(number: int, text: str) -> None:
    assert varint(number).hex() == text


def test_a_footer_another_library_wrote_comes_out_as_it_went_in() -> None:
    table = pa.table(
        {
            "whole": pa.array([1, None, -3]),
            "flag": [True, False, None],
            "text": ["a", "käse", None],
            "list": [[1.5], [], None],
            "at": pa.array([1, 2, 3], pa.timestamp("us", "UTC")),
        }
    )
    file = BytesIO()
    pq.write_table(
        table, file, row_group_size=1, compression="zstd", write_page_index=True,
        sorting_columns=[pq.SortingColumn(0)],
    )  # fmt: skip
    text = file.getvalue()
    footer = text[-8 - int.from_bytes(text[-8:-4], "little") : -8]

    assert written(read_struct(footer)[0]) == footer
