"""How a job ends: what its caller hears, and what the ledger remembers of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from msgspec import structs

from embedpool_shared.errors import EmbedPoolError, ProviderFailed
from embedpool_shared.jobs import CallTrace, JobReply, LedgerRecord, wire_error
from embedpool_shared.vectors import FLOAT_BYTES
from embedpool_worker.accounting import FENCED, cached_share, saved_and_wasted
from embedpool_worker.held import HeldJob


@dataclass(slots=True, eq=False)
class Ending:
    """One job's end."""

    job: HeldJob
    reply: JobReply
    record: LedgerRecord


def answered(job: HeldJob, dims: int, trace: CallTrace, *, began_at: float) -> Ending:
    """End a job whose every item has its vector."""
    vectors: list[Any] = job.vectors  # bytes, now that none is missing
    if set(map(len, vectors)) != {dims * FLOAT_BYTES}:
        # Parts of a job may come from different deployments; a mixture would be cut up wrongly.
        return failed(job, ProviderFailed(f"[{trace.provider}] vectors of different lengths"))
    blob = vectors[0] if len(vectors) == 1 else b"".join(vectors)
    queue_ms = round(max(0.0, began_at - job.pack.arrived_at) * 1_000, 3)
    record = _record(job, trace.provider, dims=dims)
    reply = JobReply(
        job.job.number, blob, dims, record.used, queue_ms, trace,
        cached=job.cached_items, cached_tokens=record.cached,
    )  # fmt: skip
    return Ending(job, reply, record)


def failed(job: HeldJob, error: EmbedPoolError) -> Ending:
    """End a job with an error; what was paid for it so far is waste."""
    reply = JobReply(job.job.number, b"", 0, 0, error=wire_error(error))
    reason = "cancelled" if job.is_cancelled else type(error).__name__
    return Ending(job, reply, _record(job, "", reason=reason))


def late(job: HeldJob, provider: str, paid: int) -> LedgerRecord:
    """Book what was paid for an item of a job that failed, or was answered elsewhere, meanwhile."""
    return wasted(
        LedgerRecord(
            job.pack.pack_id, job.job.number, job.job.account, job.merge.model, provider,
            used=0, paid=paid, saved=0, waste=paid,
            price_per_token_pico_usd=job.job.price_per_token_pico_usd, bill=job.job.bill,
        )
    )  # fmt: skip


def wasted(record: LedgerRecord) -> LedgerRecord:
    """Turn the record of an answer that did not count into waste, billed to nobody."""
    return structs.replace(
        record, used=0, saved=0, cached=0, waste=record.paid, reason=FENCED, items=0, dims=0
    )


def _record(job: HeldJob, provider: str, *, dims: int = 0, reason: str = "") -> LedgerRecord:
    # The api's own count where it made one: ids count as themselves, whatever text they became.
    used = 0 if reason else job.job.tokens or job.used_tokens
    saved, waste = saved_and_wasted(used, job.paid_tokens)
    return LedgerRecord(
        pack_id=job.pack.pack_id,
        number=job.job.number,
        account=job.job.account,
        model=job.merge.model,
        provider=provider,
        used=used,
        paid=job.paid_tokens,
        saved=saved,
        waste=waste,
        reason=reason or ("count" if waste else ""),
        items=len(job.job.inputs),
        price_per_token_pico_usd=job.job.price_per_token_pico_usd,
        cached=(
            cached_share(used, counted=job.used_tokens, cached=job.cached_tokens)
            if job.cached_tokens
            else 0
        ),
        bill=job.job.bill,
        dims=dims,
    )
