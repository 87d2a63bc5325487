"""The beginning of a batch: its input is looked through, and either all of it begins or nothing."""

from __future__ import annotations

import asyncio
from threading import Event
from typing import Final

from embedpool_shared.batch_records import BatchRecords
from embedpool_shared.batches import (
    Batch,
    BatchField,
    BatchRecord,
    LineProblem,
    Status,
    encode_record,
)
from embedpool_shared.embedding.models import resolve
from embedpool_shared.errors import ModelNotAllowed, NotFound
from embedpool_worker.bulk.means import Means
from embedpool_worker.bulk.patience import until_it_works
from embedpool_worker.bulk.standing import Standing
from embedpool_worker.bulk.validation import Validated, Validation

LOOK_EVERY_S: Final = 1.0
"""So often it is asked whether a batch is still wanted."""
MISSING: Final = LineProblem(
    code="input_file_missing",
    message="The content of the input file is gone.",
    param="input_file_id",
)


class Beginner:
    """Brings one batch from validating to what comes next."""

    def __init__(self, means: Means, *, batches: BatchRecords, standing: Standing) -> None:
        """Prepare."""
        self._means = means
        self._batches = batches
        self._standing = standing

    async def begin(self, record: BatchRecord) -> Batch | None:
        """Validate a batch, and return it as it is then; None where there is no such batch."""
        found = await self._looked_through(record)
        if isinstance(found, Validated):
            valid = found
            found = await until_it_works(lambda: self._allowed(record, valid), of=record.id)
        if found is not None:
            await until_it_works(lambda: self._step(record.id, found), of=record.id)
        return await until_it_works(lambda: self._batches.read(record.id), of=record.id)

    async def _looked_through(self, record: BatchRecord) -> Validated | list[LineProblem] | None:
        """Look through the input; None where the batch is cancelled meanwhile.

        Whatever the store does: it may be away, and a cancelled batch has no more need of it.
        """
        is_left = Event()
        looking = asyncio.create_task(
            until_it_works(lambda: self._result(record, is_left), of=record.id)
        )
        try:
            while not looking.done():
                if not await until_it_works(lambda: self._is_wanted(record.id), of=record.id):
                    return None
                await asyncio.wait([looking], timeout=LOOK_EVERY_S)
            return looking.result()
        finally:
            is_left.set()
            looking.cancel()

    async def _is_wanted(self, batch_id: str) -> bool:
        batch = await self._batches.read(batch_id)
        return batch is not None and batch.status is Status.VALIDATING

    async def _result(
        self, record: BatchRecord, is_left: Event
    ) -> Validated | list[LineProblem] | None:
        means = self._means
        validation = Validation(
            lambda: means.store.read(record.input_path),
            means.bounds,
            check_model=lambda model: resolve(means.catalog, model),
            default_model=means.default_model,
            is_stopped=is_left.is_set,
        )
        try:
            return await means.in_thread(validation.result)
        except NotFound:
            return [MISSING]

    async def _allowed(
        self, record: BatchRecord, found: Validated
    ) -> Validated | list[LineProblem]:
        """Hold a batch back whose key may not use the model; anything else is its lines' affair."""
        refusal = await self._standing.refusal(record.key_id, names_of(self._means, found.model))
        if not isinstance(refusal, ModelNotAllowed):
            return found
        problem = LineProblem(
            code="model_not_allowed", message=refusal.message, line=1, param="body.model"
        )
        return [problem]

    async def _step(self, batch_id: str, found: Validated | list[LineProblem]) -> None:
        if isinstance(found, Validated):
            fields: dict[BatchField, str | int | bytes] = {
                BatchField.MODEL: found.model,
                BatchField.LANE: resolve(self._means.catalog, found.model).lane,
                BatchField.TOTAL: found.total,
            }
            to = Status.IN_PROGRESS
        else:
            fields, to = {BatchField.ERRORS: encode_record(found)}, Status.FAILED
        await self._batches.step(batch_id, to, from_={Status.VALIDATING}, fields=fields)


def names_of(means: Means, model: str) -> list[str]:
    """List the names that a model goes by, the caller's last; raises our errors without one."""
    resolved = resolve(means.catalog, model)
    return list(dict.fromkeys([resolved.lane, resolved.model, model]))
