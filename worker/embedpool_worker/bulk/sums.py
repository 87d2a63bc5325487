"""What a part of a batch comes to in the ledger: its lines' records, added up. Pure.

One record for each provider, reason and price; their columns are the sums of the lines' columns,
so they balance as those do. `requests` says for how many lines a record stands.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import structs

from embedpool_shared.batches import BatchRecord
from embedpool_shared.jobs import Bill, LedgerRecord


def bill_of(batch: BatchRecord) -> Bill:
    """Say who is charged for a batch beside its account; nothing was reserved for it."""
    return Bill(batch.id, jobs=1, accounts=list(batch.payers), call_id=batch.id)


def of_an_earlier_try(record: LedgerRecord) -> LedgerRecord:
    """Keep of a try that was not the last one what it cost: it is no request of its own."""
    return structs.replace(record, requests=0, items=0)


def summed(
    records: Iterable[LedgerRecord], *, batch: BatchRecord, number: int
) -> list[LedgerRecord]:
    """Add up the records of a part's lines; one that says nothing is left out."""
    sums: dict[tuple[str, str, str, int], LedgerRecord] = {}
    bill = bill_of(batch)
    for one in records:
        place = (one.model, one.provider, one.reason, one.price_per_token_pico_usd)
        sum_ = sums.get(place)
        if sum_ is None:
            sums[place] = structs.replace(one, pack_id=batch.id, number=number, bill=bill)
            continue
        sum_.used += one.used
        sum_.paid += one.paid
        sum_.saved += one.saved
        sum_.waste += one.waste
        sum_.items += one.items
        sum_.cached += one.cached
        sum_.requests += one.requests
        sum_.dims = sum_.dims or one.dims
    return [one for one in sums.values() if one.requests or one.paid or one.saved]
