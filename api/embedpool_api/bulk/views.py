"""What is shown of a file's and a batch's record. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from embedpool_api.bulk.answers import (
    BatchErrors,
    BatchExtras,
    BatchList,
    BatchObject,
    BatchProblem,
    BatchUsage,
    FileList,
    FileObject,
    RequestCounts,
)
from embedpool_api.response import exact_usd
from embedpool_shared.batches import Batch, BatchField, FileRecord, line_problems


def file_list(records: Sequence[FileRecord], *, limit: int) -> FileList:
    """Show at most `limit` files; one more than that says that there are more."""
    data = [shown_file(record) for record in records[:limit]]
    return FileList(data=data, **_place(data), has_more=len(records) > limit)


def batch_list(batches: Sequence[Batch], *, limit: int, with_owner: bool = False) -> BatchList:
    """Show at most `limit` batches; one more than that says that there are more."""
    data = [shown_batch(batch, with_owner=with_owner) for batch in batches[:limit]]
    return BatchList(data=data, **_place(data), has_more=len(batches) > limit)


def shown_file(record: FileRecord) -> FileObject:
    """Show a file."""
    return FileObject(
        id=record.id,
        bytes=record.size_bytes,
        created_at=int(record.created_at),
        expires_at=int(record.expires_at),
        filename=record.filename,
        purpose=record.purpose.value,
    )


def shown_batch(batch: Batch, *, with_owner: bool = False) -> BatchObject:
    """Show a batch; `with_owner` also whose it is."""
    record, tokens = batch.record, batch.number(BatchField.TOKENS)
    return BatchObject(
        id=record.id,
        endpoint=record.endpoint,
        model=batch.text(BatchField.MODEL),
        errors=_errors(batch),
        input_file_id=record.input_file_id,
        completion_window=record.completion_window,
        status=batch.status.value,
        output_file_id=batch.text(BatchField.OUTPUT_FILE_ID),
        error_file_id=batch.text(BatchField.ERROR_FILE_ID),
        created_at=int(record.created_at),
        in_progress_at=batch.time(BatchField.IN_PROGRESS_AT),
        expires_at=int(record.expires_at),
        finalizing_at=batch.time(BatchField.FINALIZING_AT),
        completed_at=batch.time(BatchField.COMPLETED_AT),
        failed_at=batch.time(BatchField.FAILED_AT),
        expired_at=batch.time(BatchField.EXPIRED_AT),
        cancelling_at=batch.time(BatchField.CANCELLING_AT),
        cancelled_at=batch.time(BatchField.CANCELLED_AT),
        request_counts=RequestCounts(
            total=batch.number(BatchField.TOTAL),
            completed=batch.number(BatchField.COMPLETED),
            failed=batch.number(BatchField.FAILED),
        ),
        usage=BatchUsage(input_tokens=tokens, total_tokens=tokens),
        metadata=record.metadata or None,
        embedpool=BatchExtras(
            cost_usd=exact_usd(batch.number(BatchField.COST_PICO_USD)).decode(),
            owner=record.owner if with_owner else None,
        ),
    )


def _place(data: Sequence[FileObject] | Sequence[BatchObject]) -> dict[str, str | None]:
    ends = (data[0].id, data[-1].id) if data else (None, None)
    return dict(zip(("first_id", "last_id"), ends, strict=True))


def _errors(batch: Batch) -> BatchErrors | None:
    raw = batch.fields.get(BatchField.ERRORS)
    if raw is None:
        return None
    return BatchErrors(
        data=[
            BatchProblem(code=one.code, message=one.message, line=one.line, param=one.param)
            for one in line_problems(raw)
        ]
    )
