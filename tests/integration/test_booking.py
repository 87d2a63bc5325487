"""A part of a batch is booked once, in its turn, and only for whoever has the batch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from embedpool_shared.jobs import LedgerRecord, records_from
from embedpool_worker.bulk.booking import (
    FORGOTTEN_AFTER_S,
    Booked,
    Booking,
    Checkpoint,
    OutOfStep,
    Superseded,
)
from integration.one_process import Site

if TYPE_CHECKING:
    from support.valkey import RedisServer

FIRST = Booked(
    before=0,
    last=10,
    next_byte=1_000,
    part="1-1:5:0",
    completed=9,
    failed=1,
    records=[
        LedgerRecord("b", 1, "key:k", "m", "p", 50, 40, 10, 0, price_per_token_pico_usd=2),
    ],
)
SECOND = replace(FIRST, before=10, last=15, next_byte=1_500, part="1-11:5:5", cut="batch_expired")


def booking(site: Site, *, epoch: int = 1, batch_id: str = "b") -> Booking:
    return Booking(site.line("book"), site.lane, batch_id, epoch=epoch)


async def records(site: Site) -> list[LedgerRecord]:
    entries: list[Any] = await site.call("XRANGE", site.lane.ledger, "-", "+")
    return [record for _, fields in entries for record in records_from(fields[1])]


async def test_a_batch_that_nobody_began_begins_at_its_first_line(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        assert await booking(site).claim() == Checkpoint(claim=1)


async def test_what_is_booked_is_in_the_ledger_and_is_where_the_next_one_goes_on(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        ours = booking(site)
        begun = await ours.claim()
        await ours.book(FIRST)
        await ours.book(SECOND)

        found = await booking(site, epoch=2).claim()

        assert found == replace(SECOND.after(FIRST.after(begun)), claim=2)
        assert found.parts == ("1-1:5:0", "1-11:5:5")
        assert (found.line, found.offset, found.cut) == (15, 1_500, "batch_expired")
        assert (found.completed, found.failed, found.tokens) == (18, 2, 100)
        assert found.cost_pico_usd == 200
        assert await records(site) == [*FIRST.records, *SECOND.records]


async def test_a_part_that_is_sent_again_is_booked_once(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        ours = booking(site)
        await ours.claim()

        await ours.book(FIRST)
        await ours.book(FIRST)

        assert len(await records(site)) == 1
        assert (await ours.claim()).completed == 9


async def test_a_part_that_is_not_the_next_one_is_refused(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        ours = booking(site)
        await ours.claim()

        with pytest.raises(OutOfStep):
            await ours.book(SECOND)
        await ours.book(FIRST)
        with pytest.raises(OutOfStep):
            await ours.book(replace(FIRST, last=11))
        with pytest.raises(OutOfStep):
            await ours.book(replace(FIRST, before=5))

        assert len(await records(site)) == 1


async def test_an_older_epoch_books_and_claims_nothing(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        old, young = booking(site, epoch=1), booking(site, epoch=2)
        await old.claim()
        await young.claim()

        with pytest.raises(Superseded):
            await old.book(FIRST)
        with pytest.raises(Superseded):
            await old.claim()

        assert await records(site) == []
        await young.book(FIRST)


async def test_a_claim_ends_the_one_before_it_under_the_same_epoch(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        crashed, restarted = booking(site), booking(site)
        await crashed.claim()
        await restarted.claim()

        with pytest.raises(Superseded):
            await crashed.book(FIRST)

        assert await records(site) == []


@pytest.mark.parametrize("how", ["claimed", "goes on", "is over"])
async def test_whoever_was_overtaken_still_hears_that_its_part_was_booked(
    valkey: RedisServer, how: str
) -> None:
    async with Site(valkey.url) as site:
        ours, heir = booking(site), booking(site, epoch=2)
        await ours.claim()
        await ours.book(FIRST)  # the reply is lost
        await heir.claim()
        if how == "goes on":
            await heir.book(replace(SECOND, part="2-11:5:5"))
        if how == "is over":
            await heir.forget()

        await ours.book(FIRST)

        assert len(await records(site)) == (2 if how == "goes on" else 1)
        with pytest.raises(Superseded):
            await ours.book(SECOND)


async def test_lines_that_cost_nothing_leave_no_record(valkey: RedisServer) -> None:
    async with Site(valkey.url) as site:
        ours = booking(site)
        await ours.claim()

        await ours.book(replace(FIRST, records=()))

        assert await site.call("EXISTS", site.lane.ledger) == 0
        assert (await ours.claim()).line == 10


async def test_what_is_booked_ends_by_itself_and_is_forgotten_on_demand(
    valkey: RedisServer,
) -> None:
    async with Site(valkey.url) as site:
        ours = booking(site)
        await ours.claim()
        await site.call("PERSIST", site.lane.booked("b"))
        await ours.book(FIRST)
        assert await site.call("TTL", site.lane.booked("b")) > FORGOTTEN_AFTER_S

        await ours.assembled("5:0")
        assert (await ours.claim()).assembled == "5:0"
        await ours.forget()

        assert 0 < await site.call("TTL", site.lane.booked("b")) <= FORGOTTEN_AFTER_S
