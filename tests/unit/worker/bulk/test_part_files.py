"""What was flushed comes out once, in order, whoever wrote it and however often it is begun."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_shared.errors import NotFound, StoreUnavailable
from embedpool_shared.file_store import FileStore
from embedpool_worker.bulk.part_files import (
    Assembled,
    Part,
    PartFile,
    PartsLost,
    assemble,
    delete_parts,
    lost_files,
    part_from,
    write_part,
)
from support.stores import break_stores, breaking_store, memory_store, mend_stores

BATCH = "batch_abc"
FINAL: Mapping[str, Any] = {"out_path": "files/out", "err_path": "files/err"}


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FileStore:
    return FileStore(f"file://{tmp_path}") if request.param == "file" else memory_store()


@pytest.fixture
def breaking() -> Iterator[FileStore]:
    yield breaking_store()
    mend_stores()


def put(store: FileStore, from_line: int, *, out: str = "", err: str = "", epoch: int = 1) -> Part:
    def lines(text: str) -> list[bytes]:
        return [f"{letter}\n".encode() for letter in text]

    return write_part(
        store, BATCH, epoch=epoch, from_line=from_line, out=lines(out), err=lines(err)
    )


def content(store: FileStore, path: str) -> str:
    return b"".join(store.read(path)).decode().replace("\n", "")


def test_a_part_is_named_by_its_leader_and_its_first_line(store: FileStore) -> None:
    put(store, 17, out="ab", err="x", epoch=3)

    assert content(store, f"batches/{BATCH}/3-17.out") == "ab"
    assert content(store, f"batches/{BATCH}/3-17.err") == "x"


def test_a_file_that_nothing_would_be_in_is_not_written(store: FileStore) -> None:
    put(store, 1, out="ab")

    with pytest.raises(NotFound):
        store.size_bytes(f"batches/{BATCH}/1-1.err")


@given(st.builds(Part, *[st.integers(0, 2**60)] * 4))
def test_what_is_booked_of_a_part_is_all_that_is_known_of_it(part: Part) -> None:
    assert part_from(part.text) == part


def test_the_whole_is_the_parts_in_the_order_of_the_file(store: FileStore) -> None:
    parts = [
        put(store, 1_000, out="ef", epoch=2),
        put(store, 1, out="ab", err="x"),
        put(store, 5, err="y"),
        put(store, 20, out="cd", epoch=2),
    ]

    sizes = assemble(store, BATCH, parts, **FINAL)

    assert content(store, "files/out") == "abcdef"
    assert content(store, "files/err") == "xy"
    assert sizes == Assembled(store.size_bytes("files/out"), store.size_bytes("files/err"))


def test_a_part_that_was_overtaken_is_not_in_the_whole(store: FileStore) -> None:
    put(store, 1, out="old", epoch=1)
    booked = put(store, 1, out="new", epoch=2)

    assemble(store, BATCH, [booked], **FINAL)

    assert content(store, "files/out") == "new"


def test_a_batch_without_errors_has_no_error_file_and_one_without_lines_none_at_all(
    store: FileStore,
) -> None:
    assert assemble(store, BATCH, [put(store, 1, out="a")], **FINAL) == Assembled(2, 0)
    assert assemble(store, BATCH, [], out_path="o", err_path="e") == Assembled(0, 0)
    for missing in ("files/err", "o", "e"):
        with pytest.raises(NotFound):
            store.size_bytes(missing)


def test_whatever_is_done_again_comes_to_the_same(store: FileStore) -> None:
    part = put(store, 1, out="ab")

    assert put(store, 1, out="ab") == part
    assert assemble(store, BATCH, [part], **FINAL) == assemble(store, BATCH, [part], **FINAL)
    assert content(store, "files/out") == "ab"


@pytest.mark.parametrize("damage", ["missing", "short", "long"])
def test_a_part_that_is_not_as_it_was_booked_is_never_taken_for_one_that_is(
    store: FileStore, damage: str
) -> None:
    parts = [put(store, 1, out="ab"), put(store, 3, out="cd", err="x")]
    assert lost_files(store, BATCH, parts) == []
    if damage == "missing":
        store.delete(f"batches/{BATCH}/1-3.out")
    else:
        put(store, 3, out="c" if damage == "short" else "cde")

    with pytest.raises(PartsLost, match="line 3"):
        assemble(store, BATCH, parts, **FINAL)

    with pytest.raises(NotFound):
        store.size_bytes("files/out")
    assert lost_files(store, BATCH, parts) == [PartFile(parts[1], "out")]


def test_what_is_lost_can_be_left_out(store: FileStore) -> None:
    parts = [put(store, 1, out="ab"), put(store, 3, out="cd", err="x")]
    store.delete(f"batches/{BATCH}/1-3.out")

    assemble(store, BATCH, parts, **FINAL, without=lost_files(store, BATCH, parts))

    assert (content(store, "files/out"), content(store, "files/err")) == ("ab", "x")


def test_the_parts_of_one_batch_go_and_those_of_others_stay(store: FileStore) -> None:
    put(store, 1, out="a")
    write_part(store, "batch_other", epoch=1, from_line=1, out=[b"x\n"], err=[])

    delete_parts(store, BATCH)
    delete_parts(store, BATCH)

    with pytest.raises(NotFound):
        store.size_bytes(f"batches/{BATCH}/1-1.out")
    assert content(store, "batches/batch_other/1-1.out") == "x"


def test_a_part_that_finds_no_room_can_be_written_once_there_is_some(breaking: FileStore) -> None:
    break_stores(after_writes=2)

    with pytest.raises(StoreUnavailable, match="full"):
        put(breaking, 1, out="ab", err="x")

    mend_stores()
    part = put(breaking, 1, out="ab", err="x")
    assert assemble(breaking, BATCH, [part], **FINAL) == Assembled(4, 2)


def test_a_disk_that_fills_up_at_the_end_leaves_the_parts_to_begin_again_with(
    breaking: FileStore,
) -> None:
    parts = [put(breaking, 1, out="ab"), put(breaking, 3, out="cd")]
    break_stores(after_writes=1)

    with pytest.raises(StoreUnavailable, match="full"):
        assemble(breaking, BATCH, parts, **FINAL)

    mend_stores()
    assemble(breaking, BATCH, parts, **FINAL)
    assert content(breaking, "files/out") == "abcd"
