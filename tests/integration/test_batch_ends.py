"""The end of a batch: its files have every line once, or it says which are lost."""

from __future__ import annotations

import itertools
import json
import re
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typing_extensions import override

from embedpool_shared.batches import BatchField, Purpose, Status, line_problems
from embedpool_shared.file_store import StoredFile
from embedpool_worker.bulk import finishing, patience
from integration.batches import (
    OWNER,
    Batches,
    batches_at,
    ids,
    line_of,
    lines,
    names,
    tokens_of,
)
from integration.one_process import Embedder, until
from support.stores import FolderStore
from support.valkey import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedpool_shared.batches import Batch

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")


async def test_a_store_that_is_full_for_a_while_only_delays(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with batches_at(valkey, tmp_path) as batches:
        embedder = Embedder()
        batch_id = await batches.create(lines(500))
        batches.store.is_full = True
        batches.run(embedder)
        await until(lambda: batches.store.refusals > 1, "its results were refused twice")
        assert await batches.status(batch_id) is Status.IN_PROGRESS

        batches.store.is_full = False
        batch = await batches.ended(batch_id)

        assert batch.status is Status.COMPLETED
        assert ids(batches.outputs(batch)) == names(500)
        assert len(embedder.inputs) == 500


class Tripping(FolderStore):
    """A store in which one step of the end goes wrong, once, as if the process had died."""

    trips = ""

    @override
    def writer(self, path: str) -> StoredFile:
        if self.trips == "before the results" and path.startswith("files/"):
            self._trip()
        return super().writer(path)

    @override
    def delete_folder(self, path: str) -> None:
        if self.trips == "before the parts go":
            self._trip()
        super().delete_folder(path)
        if self.trips == "after the parts went":
            self._trip()

    def _trip(self) -> None:
        self.trips = ""
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "trips", ["before the results", "before the parts go", "after the parts went"]
)
async def test_an_end_that_is_begun_again_comes_to_the_same_files(
    valkey: RedisServer, tmp_path: Path, trips: str
) -> None:
    store = Tripping(f"file://{tmp_path}")
    async with batches_at(valkey, tmp_path, store=store) as batches:
        embedder = Embedder()
        batch_id = await batches.create([*lines(50), line_of("bad", "")])
        store.trips = trips
        batches.run(embedder)

        batch = await batches.ended(batch_id)

        assert store.trips == ""
        assert batch.status is Status.COMPLETED
        assert ids(batches.outputs(batch)) == names(50)
        assert ids(batches.errors(batch)) == ["bad"]
        assert len(embedder.inputs) == 50
        results = await batches.files.list(OWNER, limit=9, purpose=Purpose.BATCH_OUTPUT)
        assert sorted(one.size_bytes for one in results) == sorted(
            store.size_bytes(one.path) for one in results
        )
        assert len(results) == 2
        assert not list((tmp_path / "batches").glob("*/*"))


class Robbed(Tripping):
    """A store out of which somebody takes the first part of a batch, once it is about to end."""

    looks_until_back: float = inf
    taken: bytes = b""
    end = "out"

    @override
    def read(self, path: str, *, offset: int = 0) -> Iterator[bytes]:
        if path.endswith(f"-1.{self.end}"):
            if not self.taken:
                self.taken = b"".join(super().read(path))
                self.delete(path)
            elif self.looks_until_back == 0:
                with super().writer(path) as file:
                    file.write(self.taken)
            self.looks_until_back -= 1
        return super().read(path, offset=offset)


async def robbed(batches: Batches) -> Batch:
    """Run a batch of 600 lines, each fifth a bad one, whose first part is lost."""
    given = [line_of(f"{n}", "" if n % 5 == 0 else f"text {n}") for n in range(600)]
    embedder = Embedder(latency_s=0.4)
    batches.run(embedder)
    batch = await batches.ended(await batches.create(given))
    await batches.rolled_up()
    assert await batches.paid() == tokens_of(embedder)
    return batch


@pytest.mark.parametrize("end", ["out", "err"])
@pytest.mark.parametrize("trips", ["", "after the parts went"])
async def test_a_batch_whose_part_was_deleted_fails_and_says_what_is_missing(
    valkey: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, trips: str
) -> None:
    monkeypatch.setattr(finishing, "LOST_AFTER_S", 0.5)
    store = Robbed(f"file://{tmp_path}")
    store.end, store.trips = end, trips
    async with batches_at(valkey, tmp_path, store=store) as batches:
        batch = await robbed(batches)

        (problem,) = line_problems(batch.fields[BatchField.ERRORS])
        answered, failed = ids(batches.outputs(batch)), ids(batches.errors(batch))
        lost = ids([json.loads(row) for row in store.taken.splitlines()])
        assert batch.status is Status.FAILED
        assert (problem.code, problem.line) == ("results_missing", 1)
        what, last = ("answers" if end == "out" else "errors"), int(lost[-1]) + 1
        assert re.match(rf"The {what} of the lines 1 to \d+ are gone", problem.message)
        assert last <= int(problem.message.split()[7]) < last + 5
        assert sorted([*answered, *failed, *lost], key=int) == names(600)
        assert len(answered) + (len(lost) if end == "out" else 0) == 480
        counts = [batch.number(of) for of in (BatchField.COMPLETED, BatchField.FAILED)]
        booked = sum(one.used for one in await batches.booked_of(batch.record.id))
        assert counts == [480, 120]
        assert batch.number(BatchField.TOKENS) == booked > 0
        assert not list((tmp_path / "batches").glob("*/*"))


async def test_a_part_that_is_missing_for_a_moment_only_delays(
    valkey: RedisServer, tmp_path: Path
) -> None:
    store = Robbed(f"file://{tmp_path}")
    store.looks_until_back = 3
    async with batches_at(valkey, tmp_path, store=store) as batches:
        batch = await robbed(batches)

        assert store.taken
        assert batch.status is Status.COMPLETED
        assert len(batches.outputs(batch)) == 480


async def test_a_batch_that_crashes_again_and_again_fails_and_keeps_what_it_has(
    valkey: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.01)
    async with batches_at(valkey, tmp_path) as batches:
        embedder = Embedder(latency_s=0.02)
        batch_id = await batches.create(lines(9_000))
        right, parts = batches.store.writer, itertools.count()

        def writer(path: str) -> StoredFile:
            if path.startswith("batches/") and next(parts):
                raise ZeroDivisionError
            return right(path)

        monkeypatch.setattr(batches.store, "writer", writer)
        batches.run(embedder)

        batch = await batches.ended(batch_id)

        assert batch.status is Status.FAILED
        assert b"internal_error" in batch.fields[BatchField.ERRORS]
        answered = ids(batches.outputs(batch))
        assert answered
        assert answered == names(len(answered))
