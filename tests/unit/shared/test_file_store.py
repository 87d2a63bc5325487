"""What is in the store is whole, and what goes wrong with it is ours and tells no secret."""

from __future__ import annotations

import os
import stat
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
from typing_extensions import override

from embedpool_shared.config.file import load_config
from embedpool_shared.errors import ConfigInvalid, NotFound, StoreUnavailable
from embedpool_shared.file_store import (
    CHUNK_BYTES,
    FileStore,
    StoredFile,
    configured_store,
    require_store,
)
from embedpool_shared.folders import LocalFolder
from embedpool_shared.statuses import row_of
from support.stores import WORDS, break_stores, breaking_store, memory_store, mend_stores

PATH = "files/file-abc"


class Interrupted(BaseException):
    """The process is being ended."""


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FileStore:
    return (
        FileStore(f"file://{tmp_path}/a b#%20/files") if request.param == "file" else memory_store()
    )


@pytest.fixture
def breaking() -> Iterator[FileStore]:
    yield breaking_store()
    mend_stores()


def put(store: FileStore, text: bytes, path: str = PATH) -> None:
    with store.writer(path) as file:
        file.write(text)


def content(store: FileStore, path: str = PATH, *, offset: int = 0) -> bytes:
    return b"".join(store.read(path, offset=offset))


def everything_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_what_was_written_is_read_from_any_byte_on(store: FileStore) -> None:
    text = os.urandom(3 * CHUNK_BYTES // 2)

    put(store, text)

    assert content(store) == text
    assert content(store, offset=CHUNK_BYTES + 7) == text[CHUNK_BYTES + 7 :]
    assert content(store, offset=len(text)) == b""
    assert store.size_bytes(PATH) == len(text)
    assert max(map(len, store.read(PATH))) <= CHUNK_BYTES


def test_pieces_are_written_one_after_the_other_and_counted(store: FileStore) -> None:
    with store.writer(PATH) as file:
        file.write(b"ab")
        file.write(b"c")

    assert file.size_bytes == 3
    assert content(store) == b"abc"


def test_an_empty_file_is_a_file(store: FileStore) -> None:
    with store.writer(PATH):
        pass

    assert store.size_bytes(PATH) == 0
    assert content(store) == b""


def test_a_file_is_not_there_before_it_is_whole(store: FileStore) -> None:
    with store.writer(PATH) as file:
        file.write(b"x" * 2 * CHUNK_BYTES)
        with pytest.raises(NotFound):
            store.size_bytes(PATH)


def test_a_file_that_is_written_again_is_replaced_as_a_whole(store: FileStore) -> None:
    put(store, b"before, and longer")
    with store.writer(PATH) as file:
        file.write(b"after")
        assert content(store) == b"before, and longer"

    assert content(store) == b"after"


@pytest.mark.parametrize("error", [ValueError("x"), Interrupted()], ids=["error", "interruption"])
def test_a_file_whose_writing_ended_by_an_error_leaves_nothing(
    tmp_path: Path, error: BaseException
) -> None:
    store = FileStore(f"file://{tmp_path}")

    def write_and_fail() -> None:
        with store.writer(PATH) as file:
            file.write(b"x")
            raise error

    with pytest.raises(type(error)):
        write_and_fail()

    assert everything_in(tmp_path) == set()


@pytest.mark.parametrize(
    "ask",
    [lambda store: store.read(PATH), lambda store: store.size_bytes(PATH)],
    ids=["read", "size"],
)
def test_a_file_that_is_not_there_is_not_found_at_once(
    store: FileStore, ask: Callable[[FileStore], object]
) -> None:
    with pytest.raises(NotFound):
        ask(store)


def test_deleting_deletes_and_what_is_missing_is_fine(store: FileStore) -> None:
    put(store, b"a")
    put(store, b"b", "batches/b1/1-1.out")
    put(store, b"c", "batches/b2/1-1.out")

    for _ in range(2):
        store.delete(PATH)
        store.delete_folder("batches/b1")

    for gone in (PATH, "batches/b1/1-1.out"):
        with pytest.raises(NotFound):
            store.size_bytes(gone)
    assert content(store, "batches/b2/1-1.out") == b"c"


@pytest.mark.parametrize("path", ["../x", "files/../../x", "/etc/passwd", ""])
def test_no_path_leads_out_of_the_store(store: FileStore, path: str) -> None:
    with pytest.raises(NotFound):
        store.read(path)
    with pytest.raises(NotFound):
        store.writer(path)
    with pytest.raises(NotFound):
        store.delete_folder(path)


def test_what_a_crash_left_half_written_goes_once_it_is_old(tmp_path: Path) -> None:
    store = FileStore(f"file://{tmp_path}")
    put(store, b"x")
    for name in ("old", "young"):
        (tmp_path / "new" / name).write_bytes(b"half")
    os.utime(tmp_path / "new" / "old", (1_000, 1_000))
    os.utime(tmp_path / PATH, (1_000, 1_000))

    assert store.delete_abandoned(older_than_s=3_600) == 1
    assert everything_in(tmp_path) == {PATH, "new/young"}


def test_a_store_that_nobody_crashed_in_has_nothing_abandoned(store: FileStore) -> None:
    with store.writer(PATH) as file:
        assert store.delete_abandoned(older_than_s=3_600) == 0
        file.write(b"x")

    assert content(store) == b"x"
    assert store.delete_abandoned(older_than_s=0) == 0


def test_a_store_keeps_the_mark_it_was_given_first(store: FileStore, tmp_path: Path) -> None:
    mark = store.mark()

    assert store.mark() == mark
    assert FileStore(f"file://{tmp_path}/another").mark() != mark


def test_all_who_ask_at_once_for_the_mark_of_a_new_store_get_the_same(tmp_path: Path) -> None:
    url, marks = f"file://{tmp_path}/store", list[str]()
    together = threading.Barrier(8)

    def ask() -> None:
        store = FileStore(url)
        together.wait()
        marks.append(store.mark())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(marks) == 8
    assert len(set(marks)) == 1
    assert everything_in(tmp_path) == {"store/mark"}


def test_a_mark_that_is_no_mark_is_somebody_elses_file(store: FileStore) -> None:
    put(store, b"# a readme\n", "mark")

    with pytest.raises(StoreUnavailable, match="another program's"):
        store.mark()


def test_a_mount_that_is_lost_is_a_store_that_is_away(tmp_path: Path) -> None:
    store, root = FileStore(f"file://{tmp_path}/store"), tmp_path / "store"
    mark = store.mark()
    put(store, b"x")
    root.rename(tmp_path / "away")
    root.mkdir()

    uses: list[Callable[[], object]] = [
        lambda: store.read(PATH),
        lambda: store.size_bytes(PATH),
        lambda: put(store, b"y"),
        lambda: store.delete(PATH),
        lambda: store.delete_folder("files"),
        lambda: store.delete_abandoned(older_than_s=0),
        store.mark,
    ]
    for use in uses:
        with pytest.raises(StoreUnavailable, match="not mounted"):
            use()
    assert everything_in(root) == set()

    root.rmdir()
    (tmp_path / "away").rename(root)
    assert store.mark() == mark
    assert content(store) == b"x"
    with pytest.raises(NotFound):
        store.read("files/none")


def test_a_store_that_was_replaced_is_used_once_its_mark_was_looked_at(tmp_path: Path) -> None:
    store, root = FileStore(f"file://{tmp_path}/store"), tmp_path / "store"
    store.mark()
    root.rename(tmp_path / "old")
    another = FileStore(f"file://{tmp_path}/store").mark()

    with pytest.raises(StoreUnavailable):
        put(store, b"x")
    assert store.mark() == another
    put(store, b"x")

    assert content(store) == b"x"


def test_only_its_owner_can_look_into_a_folder(tmp_path: Path) -> None:
    put(FileStore(f"file://{tmp_path}/store"), b"x")

    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}

    assert modes == {0o700, 0o600}


def test_what_is_in_its_place_was_on_disk_before_and_its_name_is_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, bool]] = []
    fsync, place = os.fsync, tmp_path / PATH

    def watched(fd: int) -> None:
        synced.append((os.readlink(f"/proc/self/fd/{fd}"), place.exists()))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", watched)
    with FileStore(f"file://{tmp_path}").writer(PATH) as file:
        file.write(b"x")

    written = [(Path(path).parent.name, was_there) for path, was_there in synced]
    assert ("new", False) in written
    assert synced[-1] == (str(place.parent), True)


def test_a_full_disk_says_so_leaves_nothing_and_is_no_end(breaking: FileStore) -> None:
    def write_twice() -> None:
        with breaking.writer(PATH) as file:
            file.write(b"fits")
            file.write(b"does not")

    break_stores(after_writes=1)

    with pytest.raises(StoreUnavailable, match="full") as caught:
        write_twice()

    assert row_of(caught.value).status == 503
    mend_stores()
    with pytest.raises(NotFound):
        breaking.size_bytes(PATH)
    put(breaking, b"now it fits")
    assert content(breaking) == b"now it fits"


def test_a_real_disk_that_is_full_says_so(tmp_path: Path) -> None:
    class FullFolder(LocalFolder):
        @override
        def create(self, name: str) -> BinaryIO:
            del name
            return open("/dev/full", "wb")

    with (
        pytest.raises(StoreUnavailable, match="full"),
        StoredFile(FullFolder(tmp_path), PATH) as file,
    ):
        file.write(b"waits in the buffer until the end")


def test_a_folder_that_cannot_be_written_is_a_store_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(b"a file")

    with pytest.raises(StoreUnavailable, match=r"Not a directory|File exists"):
        put(FileStore(f"file://{tmp_path}/store/deep"), b"x")


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(13, "Permission denied", WORDS),
        RuntimeError(WORDS),
        FileNotFoundError(2, "No such bucket", WORDS),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_a_backend_says_of_a_failed_write_is_repeated_nowhere(
    breaking: FileStore, error: Exception
) -> None:
    break_stores(error)

    with pytest.raises(StoreUnavailable) as caught:
        put(breaking, b"x")

    assert WORDS not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "url",
    [
        "sftp://user:canary-password@127.0.0.1:1/files",
        "canary://user:canary-password@h/files",
        "s3://canary-password:secret@bucket/files",
        "memory://canary-password/x",
    ],
)
def test_a_password_in_the_url_is_shown_by_nothing(url: str) -> None:
    shown: list[str] = []
    try:
        shown.append(repr(FileStore(url)))
    except ConfigInvalid as error:
        shown += [*traceback.format_exception(error), repr(error)]
    config = load_config(None, {"EMBEDPOOL_FILES_URL": url}).config

    text = "".join([*shown, repr(config), str(config.files)])

    assert text
    # The test's own source is quoted where a traceback passes through it, and never its values.
    assert "canary-password" not in text


def test_a_backend_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="s3:// needs a package"):
        FileStore("s3://bucket/files")
    with pytest.raises(ConfigInvalid, match="does not know canary://"):
        FileStore("canary://bucket/files")


def test_the_store_is_the_one_configured_and_without_one_there_is_none(tmp_path: Path) -> None:
    named = load_config(None, {"EMBEDPOOL_FILES_URL": f"file://{tmp_path}"}).config

    store = configured_store(named)

    assert store is not None
    assert require_store(store).mark() == FileStore(f"file://{tmp_path}").mark()
    assert configured_store(load_config(None, {}).config) is None


def test_without_a_store_the_answer_names_the_setting() -> None:
    with pytest.raises(StoreUnavailable, match=r"`files\.url`") as caught:
        require_store(None)

    assert row_of(caught.value)[:3] == (503, "service_unavailable", "file_store_unavailable")


@pytest.mark.parametrize(
    "url", ["files", "file:relative", "file://relative", "s3:", "://x", "s3://"]
)
def test_what_is_no_url_of_a_folder_stops_the_start(url: str) -> None:
    with pytest.raises(ConfigInvalid, match=r"files\.url: should"):
        load_config(None, {"EMBEDPOOL_FILES_URL": url})
