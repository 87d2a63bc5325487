"""Batches on a site: their files and records made by hand, and a worker's bulk side to run them."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

from typing_extensions import override

from embedpool_shared import tokens
from embedpool_shared.batch_records import BatchRecords
from embedpool_shared.batches import (
    ENDED,
    Batch,
    BatchField,
    BatchRecord,
    FileRecord,
    Purpose,
    Status,
)
from embedpool_shared.catalog import Catalog, ModelCard
from embedpool_shared.errors import StoreUnavailable
from embedpool_shared.file_records import FileRecords, content_path
from embedpool_shared.file_store import FileStore, StoredFile
from embedpool_shared.jobs import LedgerRecord
from embedpool_worker.arq_workers import BulkJobs
from embedpool_worker.bulk.leading import Leading
from embedpool_worker.bulk.means import Means
from embedpool_worker.bulk.term import Term
from embedpool_worker.bulk.validation import Bounds
from integration.one_process import MODEL, Site, WorkerSide, until
from support.vectors import vector_of

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


class Store(FileStore):
    """A file store that can be away."""

    is_away = False
    refusals = 0

    @override
    def writer(self, path: str) -> StoredFile:
        if self.is_away:
            self.refusals += 1
            raise StoreUnavailable("The file store is full")
        return super().writer(path)


@dataclass
class Batches:
    """The batches of one site."""

    site: Site
    store: Store
    made: list[str] = field(default_factory=list)

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
        """Store an input and make a batch of it, as the api does."""
        now = await self.files.now()
        name = token_hex(12)
        path = content_path(f"file-{name}")
        with self.store.writer(path) as file:
            for line in lines:
                file.write(json.dumps(line).encode() + b"\n")
        upload = FileRecord(
            id=f"file-{name}", owner=OWNER, path=path, size_bytes=file.size_bytes, created_at=now,
            expires_at=now + 1_000_000, filename="in.jsonl", purpose=Purpose.BATCH,
        )  # fmt: skip
        await self.files.add(upload, max_files=None, max_bytes=None)
        record = BatchRecord(
            id=f"batch_{name}", owner=OWNER, input_file_id=upload.id, input_path=path,
            created_at=now, expires_at=now + window_s, account="key:k", payers=("team:t",),
            key_id=key_id,
        )  # fmt: skip
        await self.records.create(record)
        self.made.append(record.id)
        return record.id

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


class BulkSide:
    """The bulk side of one worker process."""

    def __init__(
        self,
        batches: Batches,
        worker: WorkerSide,
        *,
        catalog: Catalog = CATALOG,
        rows_ended: Callable[[str, int], None] = lambda _outcome, _rows: None,
    ) -> None:
        site, name = batches.site, worker.worker_id
        self._threads = ThreadPoolExecutor(2)
        self._worker = worker
        means = Means(
            names=site.names,
            line=lambda role: site.line(f"{name}-{role}"),
            store=batches.store,
            threads=self._threads,
            catalog=catalog,
            tokens=tokens,
            lane=worker.pool.lane,
            bounds=BOUNDS,
            default_model=None,
            rows_ended=rows_ended,
        )

        async def lead(epoch: int) -> None:
            jobs = BulkJobs(site.pool(f"{name}-arq"), site.names)
            await Term(means, jobs, epoch=epoch).run()

        self.leading = Leading(site.line(f"{name}-lead"), site.names, lead, worker_id=name)
        self._task = site.spawn(self.leading.run())

    async def stop(self) -> None:
        """Stop gracefully."""
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
    return Batches(site, Store(f"file://{folder}"))


def ids(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The custom ids of some rows."""
    return [row["custom_id"] for row in rows]


def vector_bytes(row: Mapping[str, Any], position: int = 0) -> bytes:
    """One of a row's vectors."""
    return b64decode(row["response"]["body"]["data"][position]["embedding"])


def expected(text: str) -> bytes:
    """The vector that belongs to this text."""
    return vector_of(text, 8)
