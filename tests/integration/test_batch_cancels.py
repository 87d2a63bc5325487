"""Batches that are cut off: by their owner or by the clock, wherever they are."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from embedpool_shared.batches import BatchField, Status
from embedpool_worker.accounting import FENCED
from embedpool_worker.bulk import attending, patience, stream
from integration.batches import (
    Batches,
    balances,
    batches_at,
    ids,
    lines,
    names,
    tokens_of,
)
from integration.one_process import MODEL, Embedder, until
from support.valkey import RedisServer
from support.vectors import token_count

if TYPE_CHECKING:
    from embedpool_shared.batches import Batch

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")
CANCELLED_WITHIN_S: Final = 5.0


def check_split(batches: Batches, batch: Batch, total: int, code: str) -> None:
    """Every line is in one of the two files, once, and the counts say so."""
    answered, left = batches.outputs(batch), batches.errors(batch)
    assert answered
    assert left
    assert {row["error"]["code"] for row in left} == {code}
    assert sorted([*ids(answered), *ids(left)], key=int) == names(total)
    assert batch.number(BatchField.COMPLETED) == len(answered)
    assert batch.number(BatchField.FAILED) == len(left)


async def test_a_cancelled_batch_keeps_what_was_answered_and_names_the_rest(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with batches_at(valkey, tmp_path) as batches:
        embedder = Embedder(latency_s=0.05)
        batches.run(embedder)
        batch_id = await batches.create(lines(20_000))
        await batches.progressed(batch_id, 1)

        await batches.cancel(batch_id)
        batch = await batches.ended(batch_id, patience_s=CANCELLED_WITHIN_S)

        assert batch.status is Status.CANCELLED
        check_split(batches, batch, 20_000, "batch_cancelled")
        assert await batches.paid() == tokens_of(embedder)
        assert balances(await batches.site.ledger())


async def test_an_expired_batch_keeps_what_was_answered_and_names_the_rest(
    valkey: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "IN_FLIGHT_S", 0.5)
    async with batches_at(valkey, tmp_path) as batches:
        embedder = Embedder(latency_s=0.05)
        batches.run(embedder)
        batch_id = await batches.create(lines(20_000), window_s=7.0)
        await batches.progressed(batch_id, 1)
        embedder.gate.clear()

        batch = await batches.ended(batch_id)
        embedder.gate.set()

        assert batch.status is Status.EXPIRED
        check_split(batches, batch, 20_000, "batch_expired")


async def test_a_batch_cancelled_before_it_began_ends_without_files(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with batches_at(valkey, tmp_path) as batches:
        batch_id = await batches.create(lines(3))
        await batches.cancel(batch_id)
        batches.run(Embedder())

        batch = await batches.ended(batch_id)

        assert batch.status is Status.CANCELLED
        assert batches.outputs(batch) == batches.errors(batch) == []


async def test_a_cancel_needs_no_file_store_and_what_was_answered_is_written_once_it_is_back(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with batches_at(valkey, tmp_path) as batches:
        embedder = Embedder(latency_s=0.2)
        batches.run(embedder)
        batch_id = await batches.create(lines(30_000))
        await batches.progressed(batch_id, 1)
        batches.store.is_away = True
        await until(lambda: batches.store.refusals > 0, "its results are refused")

        await batches.cancel(batch_id)
        assert await batches.status(batch_id) is Status.CANCELLING
        await asyncio.sleep(2.0)  # an overseer's look, and the calls on their way
        sent = len(embedder.inputs)
        await asyncio.sleep(1.0)
        assert len(embedder.inputs) == sent
        assert await batches.status(batch_id) is Status.CANCELLING
        batches.store.is_away = False
        batch = await batches.ended(batch_id)

        assert batch.status is Status.CANCELLED
        check_split(batches, batch, 30_000, "batch_cancelled")
        assert batch.number(BatchField.COMPLETED) == len(embedder.inputs)


async def test_a_batch_cancelled_while_its_input_cannot_be_read_ends_at_once(
    valkey: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 30.0)
    async with batches_at(valkey, tmp_path) as batches:
        batches.run(Embedder())
        batch_id = await batches.create(lines(3))
        batches.store.is_away = True
        await until(lambda: batches.store.refusals > 0, "its input is refused")

        await batches.cancel(batch_id)
        batch = await batches.ended(batch_id, patience_s=CANCELLED_WITHIN_S)

        assert batch.status is Status.CANCELLED


@pytest.mark.parametrize("has_begun", [False, True], ids=["never begun", "begun"])
async def test_a_cancelled_batch_does_not_wait_for_its_turn(
    valkey: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_begun: bool
) -> None:
    async with batches_at(valkey, tmp_path) as batches:
        embedder = Embedder()
        embedder.gate.clear()
        other = await batches.create(lines(3, prefix="other"))
        batch_id = await batches.create(lines(3))
        if has_begun:  # under an earlier leader
            fields: dict[BatchField, str | int | bytes] = {
                BatchField.MODEL: MODEL, BatchField.LANE: MODEL, BatchField.TOTAL: 3,
            }  # fmt: skip
            await batches.records.step(
                batch_id, Status.IN_PROGRESS, from_={Status.VALIDATING}, fields=fields
            )
        monkeypatch.setattr(attending, "MAX_RUNNING", 1)
        batches.run(embedder)
        await until(lambda: bool(embedder.calls), "the other one runs")

        await batches.cancel(batch_id)
        batch = await batches.ended(batch_id, patience_s=CANCELLED_WITHIN_S)
        embedder.gate.set()
        await batches.ended(other)

        assert batch.status is Status.CANCELLED
        assert ids(batches.errors(batch)) == (names(3) if has_begun else [])
        assert len(embedder.inputs) == 3


async def test_a_cancelled_batch_waits_only_so_long_for_what_is_on_its_way(
    valkey: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "IN_FLIGHT_S", 0.5)
    async with batches_at(valkey, tmp_path) as batches:
        embedder = Embedder()
        batches.run(embedder)
        embedder.gate.clear()
        batch_id = await batches.create(lines(1_000))
        await until(lambda: bool(embedder.calls), "some of it is on its way")

        await batches.cancel(batch_id)
        batch = await batches.ended(batch_id, patience_s=CANCELLED_WITHIN_S)
        embedder.gate.set()
        on_its_way = sum(map(token_count, embedder.inputs))
        await until(lambda: tokens_of(embedder) == on_its_way, "the calls have come back")

        async def is_booked() -> bool:
            return await batches.paid() == on_its_way

        await until(is_booked, "what was paid in vain is booked")

        assert batch.status is Status.CANCELLED
        assert ids(batches.errors(batch)) == names(1_000)
        assert {record.reason for record in await batches.site.ledger() if record.paid} == {FENCED}
