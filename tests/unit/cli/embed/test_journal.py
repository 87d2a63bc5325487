from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_cli.embed.columns import Kind
from embedpool_cli.embed.journal import (
    MOST_AT_ONCE,
    Journal,
    Progress,
    last_progress,
    line_of,
    write_all,
)

FIRST = Progress(rows_in=10, rows_out=9, rejected=1, shard_bytes=99, dims=4, kinds=(Kind.TEXT,))
SECOND = Progress(rows_in=20, rows_out=19, rejected=1, shard_bytes=199, dims=4, kinds=(Kind.OTHER,))


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


@pytest.mark.parametrize("pieces", [0, 1, MOST_AT_ONCE, 2 * MOST_AT_ONCE + 1])
@pytest.mark.parametrize("at_once", [1, 10_000_000])
def test_every_piece_is_written_however_little_the_disk_takes_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pieces: int, at_once: int
) -> None:
    def little(fd: int, some: Sequence[bytes]) -> int:
        return os.write(fd, b"".join(some)[:at_once])

    monkeypatch.setattr(os, "writev", little)
    texts = [b"%d," % number for number in range(pieces)]
    path = tmp_path / "file"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)

    write_all(fd, texts)
    os.close(fd)

    assert path.read_bytes() == b"".join(texts)
