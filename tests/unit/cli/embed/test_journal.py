from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from embedpool_cli.embed.columns import Kind
from embedpool_cli.embed.journal import Journal, Progress, last_progress, line_of

FIRST = Progress(rows_in=10, rows_out=9, rejected=1, part_bytes=99, dims=4, kinds=(Kind.TEXT,))
SECOND = Progress(rows_in=20, rows_out=19, rejected=1, part_bytes=199, dims=4, kinds=(Kind.OTHER,))


def test_the_last_line_counts() -> None:
    journal = line_of(FIRST) + line_of(SECOND)

    assert last_progress(journal) == (SECOND, len(journal))


def test_nothing_is_a_beginning() -> None:
    assert last_progress(b"") == (Progress(), 0)


@given(st.integers(1, len(line_of(SECOND))))
def test_a_torn_end_is_as_if_it_had_not_been_written(missing: int) -> None:
    whole = line_of(FIRST)

    assert last_progress((whole + line_of(SECOND))[:-missing]) == (FIRST, len(whole))


@given(st.integers(0, len(line_of(SECOND)) - 1), st.integers(1, 255))
def test_a_damaged_line_ends_what_is_believed(at: int, flip: int) -> None:
    whole, damaged = line_of(FIRST), bytearray(line_of(SECOND))
    damaged[at] ^= flip

    assert last_progress(whole + bytes(damaged) + line_of(SECOND)) == (FIRST, len(whole))


def test_a_journal_goes_on_after_what_is_good(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(line_of(FIRST) + line_of(SECOND)[:-3])

    with Journal(path) as journal:
        assert journal.progress == FIRST
        journal.add(SECOND)

    assert path.read_bytes() == line_of(FIRST) + line_of(SECOND)
