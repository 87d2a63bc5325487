"""The files that a batch grows by, one pair for each booked window, and the end of them.

It blocks: callers run it in a thread. A part is known by a text that says how long its files are,
so that none can be missing or short when the whole is put together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

from embedpool_shared.errors import NotFound, PoolError
from embedpool_shared.file_store import FileStore

OUT: Final = "out"
ERR: Final = "err"


class Part(NamedTuple):
    """The results of some lines that follow each other."""

    epoch: int  # of the leader that wrote it: two of them never write the same file
    from_line: int
    out_bytes: int  # 0: no such file
    err_bytes: int

    @property
    def text(self) -> str:
        """What is booked of it."""
        return f"{self.epoch}-{self.from_line}:{self.out_bytes}:{self.err_bytes}"

    @property
    def name(self) -> str:
        """How its files are named, but for their ends."""
        return f"{self.epoch}-{self.from_line}"


class PartFile(NamedTuple):
    """One of a part's two files."""

    part: Part
    end: str

    @property
    def size_bytes(self) -> int:
        """How long it was when it was booked; 0: there is none."""
        return self.part.out_bytes if self.end == OUT else self.part.err_bytes


class PartsLost(PoolError):
    """The file store is there, and not all that was put into it."""


class Assembled(NamedTuple):
    """How long the files of a finished batch are; 0: there is none, nothing would be in it."""

    out_bytes: int
    err_bytes: int


def part_from(text: str) -> Part:
    """Read what was booked of a part."""
    name, out_bytes, err_bytes = text.split(":")
    epoch, from_line = name.split("-")
    return Part(int(epoch), int(from_line), int(out_bytes), int(err_bytes))


def folder_of(batch_id: str) -> str:
    """Say where the parts of a batch are."""
    return f"batches/{batch_id}"


def write_part(
    store: FileStore,
    batch_id: str,
    *,
    epoch: int,
    from_line: int,
    out: Sequence[bytes],
    err: Sequence[bytes],
) -> Part:
    """Write the results of the lines from `from_line` on; they are safe when it returns.

    Written once more, by the same leader, it replaces what it was.
    """
    part = Part(epoch, from_line, sum(map(len, out)), sum(map(len, err)))
    for lines, size_bytes, end in ((out, part.out_bytes, OUT), (err, part.err_bytes, ERR)):
        if size_bytes:
            with store.writer(_path(batch_id, part, end)) as file:
                for line in lines:
                    file.write(line)
    return part


def assemble(
    store: FileStore,
    batch_id: str,
    parts: Iterable[Part],
    *,
    out_path: str,
    err_path: str,
    without: Collection[PartFile] = (),
) -> Assembled:
    """Put the parts together in their order; a file that nothing would be in is not written.

    Done once more, after an end on the way, it comes to the same. Raises `PartsLost` where some
    are not as they were booked, other than those to be left out.
    """
    listed = sorted(parts, key=lambda part: part.from_line)
    left = [one for one in _files(listed) if one not in without]
    return Assembled(
        _assembled(store, batch_id, [one for one in left if one.end == OUT], out_path),
        _assembled(store, batch_id, [one for one in left if one.end == ERR], err_path),
    )


def lost_files(store: FileStore, batch_id: str, parts: Iterable[Part]) -> list[PartFile]:
    """Read every file of these parts, and say which are not there as they were booked."""
    return [one for one in _files(parts) if not _is_whole(store, batch_id, one)]


def delete_parts(store: FileStore, batch_id: str) -> None:
    """Delete all parts of a batch, whoever wrote them."""
    store.delete_folder(folder_of(batch_id))


def _files(parts: Iterable[Part]) -> list[PartFile]:
    both = (PartFile(part, end) for part in parts for end in (OUT, ERR))
    return [one for one in both if one.size_bytes]


def _assembled(store: FileStore, batch_id: str, files: Sequence[PartFile], path: str) -> int:
    if not files:
        return 0
    with store.writer(path) as whole:
        for one in files:
            before = whole.size_bytes
            for chunk in _read(store, batch_id, one):
                whole.write(chunk)
            if whole.size_bytes - before != one.size_bytes:
                raise _lost(one)
    return whole.size_bytes


def _is_whole(store: FileStore, batch_id: str, one: PartFile) -> bool:
    try:
        return sum(map(len, _read(store, batch_id, one))) == one.size_bytes
    except PartsLost:
        return False


def _read(store: FileStore, batch_id: str, one: PartFile) -> Iterable[bytes]:
    try:
        return store.read(_path(batch_id, one.part, one.end))
    except NotFound:
        raise _lost(one) from None


def _path(batch_id: str, part: Part, end: str) -> str:
    return f"{folder_of(batch_id)}/{part.name}.{end}"


def _lost(one: PartFile) -> PartsLost:
    return PartsLost(
        f"The file store does not hold all results from line {one.part.from_line} on: "
        "was something deleted from it?"
    )
