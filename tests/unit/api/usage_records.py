"""Usage records as workers write them."""

from __future__ import annotations

from msgspec import structs

from embedpool_shared.jobs import Bill, LedgerRecord


def record(
    request: str,
    *,
    part: int = 0,
    jobs: int = 1,
    items: int = 1,
    tokens: int = 10,
    cached: int = 0,
    price: int = 1_000,
    metadata: str = "",
    reason: str = "",
) -> LedgerRecord:
    """One ending of one part of a request."""
    waste = tokens if reason else 0
    return LedgerRecord(
        pack_id=f"pack-{request}",
        number=part,
        account="caller:master",
        model="m",
        provider="openai",
        used=tokens - waste,
        paid=tokens,
        saved=0,
        waste=waste,
        reason=reason,
        items=items,
        price_per_token_pico_usd=price,
        cached=cached,
        bill=Bill(
            request=request,
            jobs=jobs,
            accounts=[],
            call_id=f"req_{request}",
            metadata=metadata,
            part=part,
        ),
    )


def booked(batch: str, *, requests: int, items: int = 1, reason: str = "") -> LedgerRecord:
    """Some lines of a batch that ended alike, booked as one."""
    lines = record(batch, items=items, reason=reason)
    return structs.replace(
        lines,
        pack_id=batch,
        requests=requests,
        bill=Bill(batch, jobs=1, accounts=[], call_id=batch),
    )
