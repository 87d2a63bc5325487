"""Where finished rows go: parts and a journal beside OUT, or straight to standard output.

Invariants
- `add` returns when its rows survive a power cut (standard output: when they were written).
- A row is in exactly one part or in the rejects, in the order of the input.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from embedpool_cli.embed.columns import Kind
from embedpool_cli.embed.journal import Journal, Progress, sync_folder, write_all
from embedpool_cli.embed.json_rows import json_lines
from embedpool_cli.embed.order import Output
from embedpool_cli.embed.parts import PartFile
from embedpool_cli.embed.rejects import reject_lines
from embedpool_cli.embed.rows import Done
from embedpool_cli.embed.typed_columns import Typing
from embedpool_cli.embed.vector_rows import batch_of
from embedpool_cli.embed.work_folder import JOURNAL, REJECTS, WorkFolder


class Store(Protocol):
    """Takes finished rows."""

    @property
    def progress(self) -> Progress:
        """How far it is."""
        ...

    def add(self, done: Sequence[Done], books: Progress) -> None:
        """Keep rows; of `books` only tokens, money and dims are read. Raises `OSError`."""
        ...


class FolderStore:
    """Parts, rejects and a journal in a work folder."""

    def __init__(self, folder: WorkFolder, output: Output) -> None:
        """Go on where the journal ends; raises `OSError`."""
        self._folder = folder.path
        self._output = output
        self._journal = Journal(self._folder / JOURNAL)
        now = self._journal.progress
        self._part = PartFile(self._folder, now.part, now.part_bytes)
        self._remove_later_parts(now.part)
        self._rejects = os.open(self._folder / REJECTS, os.O_WRONLY | os.O_CREAT, 0o666)
        os.ftruncate(self._rejects, now.rejects_bytes)
        os.lseek(self._rejects, 0, os.SEEK_END)
        sync_folder(self._folder)

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self._journal.progress

    def add(self, done: Sequence[Done], books: Progress) -> None:
        """Keep rows; of `books` only tokens, money and dims are read. Raises `OSError`."""
        now = counted(self.progress, done, books)
        rejected = b"".join(line for one in done for line in reject_lines(one))
        self._add_vectors(done, now.dims)
        if rejected:
            write_all(self._rejects, rejected)
            os.fdatasync(self._rejects)
        self._journal.add(
            replace(
                now,
                part=self._part.number,
                part_bytes=self._part.size_bytes,
                rejects_bytes=now.rejects_bytes + len(rejected),
            )
        )

    def note(self, *, is_complete: bool = False, is_sealed: bool = False) -> None:
        """Journal that all rows are here, or that the output is whole; raises `OSError`."""
        now = self.progress
        self._journal.add(
            replace(
                now,
                is_complete=now.is_complete or is_complete,
                is_sealed=now.is_sealed or is_sealed,
            )
        )

    def close(self) -> None:
        """Close every file."""
        self._part.close()
        os.close(self._rejects)
        self._journal.close()

    def _add_vectors(self, done: Sequence[Done], dims: int | None) -> None:
        before = self.progress.rows_out
        for one in done:
            if dims is None or not any(item.vector is not None for item in one.items):
                continue
            batch = batch_of(one, dims, self._output.dtype)
            self._add_batch(batch, before)
            before += batch.num_rows
        self._part.sync()

    def _add_batch(self, batch: Any, rows_before: int) -> None:
        most = self._output.shard_rows
        while most is not None and rows_before + batch.num_rows > (self._part.number + 1) * most:
            room = (self._part.number + 1) * most - rows_before
            if room:
                self._part.add(batch.slice(0, room))
            self._part = self._part.next()
            batch = batch.slice(room)
            rows_before += room
        self._part.add(batch)

    def _remove_later_parts(self, last: int) -> None:
        for path in self._folder.glob("part-*.arrow"):
            if int(path.stem.removeprefix("part-")) > last:
                path.unlink()


class StreamStore:
    """Lines of JSON on standard output; nothing of it can be resumed."""

    def __init__(self, output: Output, out: BinaryIO, errors: BinaryIO, typing: Typing) -> None:
        """Write rows to `out`, and rejects to their file or else to `errors`."""
        self.progress = Progress()
        self._out = out
        self._dtype = output.dtype
        self._typing = typing
        self._rejects = Path(output.rejects).open("xb") if output.rejects else errors

    def add(self, done: Sequence[Done], books: Progress) -> None:
        """Write rows and rejects; raises `OSError`."""
        now = counted(self.progress, done, books)
        for one in done:
            if now.dims is not None and any(item.vector is not None for item in one.items):
                for lines in json_lines(batch_of(one, now.dims, self._dtype), self._typing):
                    self._out.write(lines)
            self._rejects.writelines(reject_lines(one))
        self._out.flush()
        self._rejects.flush()
        self.progress = now


def counted(before: Progress, done: Sequence[Done], books: Progress) -> Progress:
    """Add rows to the figures of a run."""
    rows = sum(len(one.items) for one in done)
    good = sum(item.vector is not None for one in done for item in one.items)
    return replace(
        before,
        rows_in=before.rows_in + rows,
        rows_out=before.rows_out + good,
        rejected=before.rejected + rows - good,
        tokens=books.tokens,
        spent_pico_usd=books.spent_pico_usd,
        dims=books.dims,
        kinds=_kinds(before.kinds, done),
    )


def _kinds(before: tuple[Kind, ...], done: Sequence[Done]) -> tuple[Kind, ...]:
    for one in done:
        seen = one.block.kinds
        before = tuple(a | b for a, b in zip(before, seen, strict=True)) if before else seen
    return before
