from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from embedpool_cli.tables import printable, table


def test_cells_of_a_column_stand_under_each_other() -> None:
    assert list(table([("a", "bb", "c"), ("aaa", "b", "")])) == ["a    bb  c", "aaa  b"]


def test_no_rows_are_no_lines() -> None:
    assert list(table([])) == []


@given(st.text())
def test_what_is_printed_moves_no_cursor(text: str) -> None:
    shown = printable(text)

    assert shown.isprintable()
    if text.isprintable():
        assert shown == text


def test_an_escape_sequence_is_spelt_out() -> None:
    assert printable("red \x1b[31m\n") == "red \\x1b[31m\\n"
