"""Where finished rows go: into OUT as it grows, with a journal, or straight to standard output.

Invariants
- `add` returns when its rows survive a power cut (standard output: when they were written).
- A row is in OUT once or in the rejects once, in the order of the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Protocol

from embedpool_cli.embed.append_file import AppendFile
from embedpool_cli.embed.columns import Kind
from embedpool_cli.embed.growing import Growing
from embedpool_cli.embed.journal import Journal, Progress, sync_folder
from embedpool_cli.embed.json_rows import json_lines
from embedpool_cli.embed.order import Output
from embedpool_cli.embed.rejects import reject_lines
from embedpool_cli.embed.rows import Done
from embedpool_cli.embed.vector_rows import rows_of
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
    """OUT, rejects and a journal in a work folder."""

    def __init__(self, folder: WorkFolder, output: Output) -> None:
        """Look at what is there; raises `OSError`."""
        self._folder = folder.path
        self._output = output
        self._journal = Journal(self._folder / JOURNAL)
        self._files: _Files | None = None
        self._failure: BaseException | None = None

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self._journal.progress

    def add(self, done: Sequence[Done], books: Progress) -> None:
        """Keep rows; of `books` only tokens, money and dims are read. Raises `OSError`, `Broken`.

        After a failure nothing more is taken: it would leave a gap.
        """
        if self._failure is not None:
            raise self._failure
        try:
            self._journal.add(self._written(done, counted(self.progress, done, books)))
        except BaseException as failure:
            self._failure = failure
            raise

    def note(self, *, is_complete: bool = False, is_sealed: bool = False) -> None:
        """Journal that all rows are here, or that the output is whole; raises `OSError`."""
        now = self.progress
        complete, sealed = now.is_complete or is_complete, now.is_sealed or is_sealed
        self._journal.add(replace(now, is_complete=complete, is_sealed=sealed))

    def _written(self, done: Sequence[Done], now: Progress) -> Progress:
        if self._files is None:
            self._files = _Files(self._folder, self.progress, self._output)
        return self._files.add(done, now, self.progress.rows_out)

    def close(self) -> None:
        """Close every file."""
        if self._files is not None:
            self._files.close()
        self._journal.close()


class _Files:
    """What a run writes to; open only while rows come."""

    def __init__(self, folder: Path, now: Progress, output: Output) -> None:
        self._out = Growing(folder, output, now)
        self._rejects = AppendFile(folder / REJECTS, now.rejects_bytes)
        sync_folder(folder)

    def add(self, done: Sequence[Done], now: Progress, rows_before: int) -> Progress:
        """Write rows; complete `now` with how long the files are."""
        for one in done:
            if rows := rows_of(one):
                self._out.add(rows, rows_before)
                rows_before += len(rows)
        self._out.sync()
        if rejected := b"".join(line for one in done for line in reject_lines(one)):
            self._rejects.add(rejected)
            self._rejects.sync()
        return replace(
            now,
            shard=self._out.shard,
            shard_bytes=self._out.shard_bytes,
            carried_bytes=self._out.carried_bytes,
            rejects_bytes=self._rejects.size_bytes,
        )

    def close(self) -> None:
        self._out.close()
        self._rejects.close()


class StreamStore:
    """Lines of JSON on standard output; nothing of it can be resumed."""

    def __init__(self, output: Output, out: BinaryIO, rejects: BinaryIO) -> None:
        """Write rows to `out`, rejects to theirs; the caller closes both."""
        self.progress = Progress()
        self._out = out
        self._dtype = output.dtype
        self._rejects = rejects

    def add(self, done: Sequence[Done], books: Progress) -> None:
        """Write rows and rejects; raises `OSError`."""
        now = counted(self.progress, done, books)
        for one in done:
            for lines in json_lines(rows_of(one), self._dtype):
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
