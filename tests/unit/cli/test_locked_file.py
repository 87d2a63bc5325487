"""A lock is one holder's, until everybody has closed what it is on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from embedpool_cli.locked_file import is_locked_now, open_to_lock


@contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = open_to_lock(path)
    try:
        yield fd
    finally:
        os.close(fd)


def test_one_holder_at_a_time_has_it(tmp_path: Path) -> None:
    with opened(tmp_path / "lock") as second:
        with opened(tmp_path / "lock") as first:
            assert is_locked_now(first)
            assert not is_locked_now(second)

        assert is_locked_now(second)


def test_an_heir_holds_it_as_long_as_it_has_it_open(tmp_path: Path) -> None:
    with opened(tmp_path / "lock") as late:
        with opened(tmp_path / "lock") as first:
            assert is_locked_now(first)
            heir = os.dup(first)

        assert not is_locked_now(late)
        os.close(heir)
        assert is_locked_now(late)


def test_it_is_its_owners_alone_no_child_has_it_unasked_and_what_is_in_it_stays(
    tmp_path: Path,
) -> None:
    path = tmp_path / "lock"
    path.write_text("77")
    path.chmod(0o600)

    with opened(path) as fd, opened(tmp_path / "fresh"):
        assert not os.get_inheritable(fd)

    assert path.read_text() == "77"
    assert (tmp_path / "fresh").stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_opened_is_an_error_of_the_systems(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_to_lock(tmp_path / "missing" / "lock")
