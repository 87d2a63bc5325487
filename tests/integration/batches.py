"""Batches on a site: their files and records made by hand, and a worker's bulk side to run them."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

from embedpool_shared import tokens
from embedpool_shared.batch_records import BatchRecords
from embedpool_shared.batches import (
    ENDED,
    Batch,
    BatchField,
    Status,
)
from embedpool_shared.catalog import Catalog, ModelCard
from embedpool_shared.file_records import FileRecords, content_path
from embedpool_shared.jobs import LedgerRecord
from embedpool_worker.arq_workers import BulkJobs
from embedpool_worker.bulk.feeding import DirectLane
from embedpool_worker.bulk.leading import Leading
from embedpool_worker.bulk.means import Means
from embedpool_worker.bulk.term import Term
from embedpool_worker.bulk.validation import Bounds
from embedpool_worker.providers.port import Provider
from integration.one_process import MODEL, Embedder, Site, WorkerSide, until
from support.bulk_records import batch_record_of, file_record_of
from support.stores import FolderStore
from support.valkey import RedisServer
from support.vectors import token_count, vector_of

OWNER: Final = "team:t"
PRICE: Final = 7
CATALOG: Final = Catalog(
    models={
        MODEL: ModelCard(
            name=MODEL, providers=("fake",), dimensions=8, price_per_token_pico_usd=PRICE
        )
    },
    providers=("fake",),
)
BOUNDS: Final = Bounds(max_lines=100_000, max_inputs=100_000, max_line_bytes=1024 * 1024)


def line_of(custom_id: str, given: Any, *, model: str = MODEL, **more: Any) -> dict[str, Any]:
    """One line of an input file."""
    body = {"model": model, "input": given, "encoding_format": "base64", **more}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/embeddings", "body": body}


@dataclass
class Batches:
    """The batches of one site."""

    site: Site
    store: FolderStore
    sides: list[BulkSide] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.records = BatchRecords(self.site.line("records"), self.site.names)
        self.files = FileRecords(self.site.line("files"), self.site.names)

    async def create(
        self,
        lines: Iterable[Mapping[str, Any]],
        *,
        window_s: float = 24 * 3600.0,
        key_id: str | None = None,
    ) -> str:
        """FolderStore an input and make a batch of it, as the api does."""
        now = await self.files.now()
        name = token_hex(12)
        path = content_path(f"file-{name}")
        with self.store.writer(path) as file:
            for line in lines:
                file.write(json.dumps(line).encode() + b"\n")
        upload = file_record_of(
            f"file-{name}", owner=OWNER, size_bytes=file.size_bytes, created_at=now
        )
        await self.files.add(upload, max_files=None, max_bytes=None)
        record = batch_record_of(
            f"batch_{name}", reads=upload.id, owner=OWNER, created_at=now,
            expires_at=now + window_s, account="key:k", payers=("team:t",), key_id=key_id,
        )  # fmt: skip
        await self.records.create(record)
        return record.id

    def run(self, provider: Provider, worker_id: str = "w1", **more: Any) -> BulkSide:
        """Add a worker that runs batches with calls to `provider`, until all is over."""
        side = BulkSide(self, self.site.worker(provider, worker_id), **more)
        self.sides.append(side)
        return side

    async def read(self, batch_id: str) -> Batch:
        """Read a batch, which has to exist."""
        batch = await self.records.read(batch_id)
        assert batch is not None
        return batch

    async def status(self, batch_id: str) -> Status:
        """Say how far it is."""
        return (await self.read(batch_id)).status

    async def ended(self, batch_id: str, *, patience_s: float = 30.0) -> Batch:
        """Wait for its end."""

        async def has_ended() -> bool:
            return await self.status(batch_id) in ENDED

        await until(has_ended, f"{batch_id} ends", patience_s=patience_s)
        return await self.read(batch_id)

    async def progressed(self, batch_id: str, lines: int) -> None:
        """Wait until so many of its lines are done with."""

        async def has() -> bool:
            batch = await self.read(batch_id)
            return batch.number(BatchField.COMPLETED) + batch.number(BatchField.FAILED) >= lines

        await until(has, f"{lines} lines are done with")

    async def cancel(self, batch_id: str) -> None:
        """Cancel it, as the api does."""
        going_on = {Status.VALIDATING, Status.IN_PROGRESS}
        await self.records.step(batch_id, Status.CANCELLING, from_=going_on)

    def rows(self, batch: Batch, which: BatchField) -> list[dict[str, Any]]:
        """Read one of its results; none where there is no such file."""
        file_id = batch.text(which)
        if file_id is None:
            return []
        content = b"".join(self.store.read(content_path(file_id)))
        return [json.loads(line) for line in content.splitlines()]

    def outputs(self, batch: Batch) -> list[dict[str, Any]]:
        """Read its output file."""
        return self.rows(batch, BatchField.OUTPUT_FILE_ID)

    def errors(self, batch: Batch) -> list[dict[str, Any]]:
        """Read its error file."""
        return self.rows(batch, BatchField.ERROR_FILE_ID)

    async def booked_of(self, batch_id: str) -> list[LedgerRecord]:
        """The ledger's records of a batch, without what was paid twice."""
        return [one for one in await self.site.ledger() if one.pack_id == batch_id]

    async def overtake(self) -> None:
        """Let whoever leads have lost its lease, though it does not know yet."""
        await self.site.call("HSET", self.site.names.bulk_lease, "until", "0")

    async def rolled_up(self) -> None:
        """Wait until all that is booked by now is in the accounts."""
        await until(self.site.is_rolled_up, "its records are rolled up")

    async def paid(self) -> int:
        """How many tokens the ledger says were paid."""
        return sum(record.paid for record in await self.site.ledger())


def means_of(
    batches: Batches,
    threads: Executor,
    lane: Callable[[str], DirectLane],
    *,
    name: str = "w1",
    catalog: Catalog = CATALOG,
    rows_ended: Callable[[str, int], None] = lambda _outcome, _rows: None,
) -> Means:
    """What a worker process gives its batches."""
    site = batches.site
    return Means(
        names=site.names,
        line=lambda role: site.line(f"{name}-{role}"),
        store=batches.store,
        threads=threads,
        catalog=catalog,
        tokens=tokens,
        lane=lane,
        bounds=BOUNDS,
        default_model=None,
        rows_ended=rows_ended,
    )


class BulkSide:
    """The bulk side of one worker process."""

    def __init__(
        self,
        batches: Batches,
        worker: WorkerSide,
        **more: Any,
    ) -> None:
        """Offer to lead; `more` is what is special about its means."""
        site, name = batches.site, worker.worker_id
        self._threads = ThreadPoolExecutor(2)
        self._worker = worker
        means = means_of(batches, self._threads, worker.pool.lane, name=name, **more)

        async def lead(epoch: int) -> None:
            jobs = BulkJobs(site.pool(f"{name}-arq"), site.names)
            await Term(means, jobs, epoch=epoch).run()

        self.leading = Leading(site.line(f"{name}-lead"), site.names, lead, worker_id=name)
        self._task = site.spawn(self.leading.run())

    async def stop(self) -> None:
        """Stop gracefully, unless it has ended."""
        if not self._task.done():
            await self._end()
            await self.leading.leave()

    async def kill(self) -> None:
        """End it and its pool as a crash does: nothing is given back, nothing is booked."""
        await self._worker.kill()
        await self._end()

    async def _end(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._threads.shutdown(wait=True)


def batches_on(site: Site, folder: Path) -> Batches:
    """Keep batches of a site in a folder."""
    return Batches(site, FolderStore(f"file://{folder}"))


@asynccontextmanager
async def batches_at(
    valkey: RedisServer, folder: Path, *, store: FolderStore | None = None
) -> AsyncIterator[Batches]:
    """Open a site with batches in a folder, or in that store; whoever runs them stops with it."""
    async with Site(valkey.url) as site:
        batches = Batches(site, store) if store else batches_on(site, folder)
        try:
            yield batches
        finally:
            for side in batches.sides:
                await side.stop()


def lines(count: int, *, prefix: str = "") -> list[dict[str, Any]]:
    """So many lines, whose ids and texts are their numbers behind a prefix."""
    return [line_of(f"{prefix}{n}", f"{prefix}text {n}") for n in range(count)]


def names(count: int, *, prefix: str = "") -> list[str]:
    """The custom ids of these."""
    return [f"{prefix}{n}" for n in range(count)]


def balances(records: Sequence[LedgerRecord]) -> bool:
    """Tell whether every record has as much on one side as on the other."""
    return all(one.used + one.waste == one.paid + one.saved for one in records)


def tokens_of(embedder: Embedder) -> int:
    """What the provider was paid, answered or not yet."""
    return sum(token_count(given) for call in embedder.answered for given in call)


def ids(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The custom ids of some rows."""
    return [row["custom_id"] for row in rows]


def vector_bytes(row: Mapping[str, Any], position: int = 0) -> bytes:
    """One of a row's vectors."""
    return b64decode(row["response"]["body"]["data"][position]["embedding"])


def expected(text: str) -> bytes:
    """The vector that belongs to this text."""
    return vector_of(text, 8)
