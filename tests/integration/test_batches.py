"""Batches from creation to results, through a real pool and a real server."""

from __future__ import annotations

import asyncio
import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from typing_extensions import override

from embedpool_shared.accounts import RECORD, KeyRecord
from embedpool_shared.batches import BatchField, Purpose, Status
from embedpool_shared.errors import ProviderUnavailable, StoreUnavailable
from embedpool_shared.file_store import StoredFile
from embedpool_shared.jobs import LaneClass, LedgerRecord
from embedpool_worker.accounting import FENCED
from embedpool_worker.arq_workers import BulkJobs
from embedpool_worker.bulk import patience, stream
from embedpool_worker.bulk.attending import MAX_RUNNING
from embedpool_worker.providers.port import ProviderAnswer, ProviderCall
from integration.batches import (
    OWNER,
    PRICE,
    Batches,
    BulkSide,
    Store,
    batches_on,
    expected,
    ids,
    line_of,
    vector_bytes,
)
from integration.one_process import MODEL, Embedder, Site, until
from integration.test_quiescence import names_without_an_end
from support.valkey import RedisServer
from support.vectors import token_count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from embedpool_shared.batches import Batch

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")


def lines(count: int, *, prefix: str = "") -> list[dict[str, Any]]:
    return [line_of(f"{prefix}{n}", f"{prefix}text {n}") for n in range(count)]


def names(count: int, *, prefix: str = "") -> list[str]:
    return [f"{prefix}{n}" for n in range(count)]


def balances(records: Sequence[LedgerRecord]) -> bool:
    return all(one.used + one.waste == one.paid + one.saved for one in records)


def tokens_of(embedder: Embedder) -> int:
    """What the provider was paid, answered or not yet."""
    return sum(token_count(given) for call in embedder.answered for given in call)


async def paid_in(site: Site) -> int:
    return sum(record.paid for record in await site.ledger())


async def test_a_batch_gives_every_line_its_own_vectors_in_the_order_of_the_file(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with Site(valkey.url) as site:
        batches = batches_on(site, tmp_path)
        bulk = BulkSide(batches, site.worker(Embedder(latency_s=0.002)))

        batch = await batches.ended(await batches.create(lines(2_000)))
        await bulk.stop()

        rows = batches.outputs(batch)
        assert batch.status is Status.COMPLETED
        assert ids(rows) == names(2_000)
        assert [vector_bytes(row) for row in rows] == [expected(f"text {n}") for n in range(2_000)]
        assert batch.number(BatchField.COMPLETED) == batch.number(BatchField.TOTAL) == 2_000
        assert batches.errors(batch) == []
        assert not list((tmp_path / "batches").glob("*/*"))


async def test_what_a_batch_costs_is_in_its_record_in_the_ledger_and_in_its_payers_accounts(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with Site(valkey.url) as site:
        batches = batches_on(site, tmp_path)
        rows: dict[str, int] = {}

        def count(outcome: str, ended: int) -> None:
            rows[outcome] = rows.get(outcome, 0) + ended

        embedder = Embedder()
        bulk = BulkSide(batches, site.worker(embedder), rows_ended=count)
        twice = [*lines(300), *lines(300, prefix="x"), line_of("bad", "")]
        twice[5]["body"]["input"] = "text 4"  # the same text is paid for once

        batch = await batches.ended(await batches.create(twice))
        await until(site.is_rolled_up, "its records are rolled up")
        await bulk.stop()

        booked = await batches.booked_of(batch.record.id)
        used = sum(token_count(f"text {n}") + token_count(f"xtext {n}") for n in range(300))
        used += token_count("text 4") - token_count("text 5")
        assert balances(booked)
        assert sum(one.requests for one in booked) == 600
        assert sum(one.used for one in booked) == batch.number(BatchField.TOKENS) == used
        assert batch.number(BatchField.COST_PICO_USD) == used * PRICE
        assert sum(one.paid for one in booked) == tokens_of(embedder)
        for account in ("key:k", "team:t", f"model:{MODEL}", "global:all"):
            name = site.names.account(account).account
            found = await site.call("HMGET", name, "requests", "cost", "used")
            assert list(map(int, found)) == [600, used * PRICE, used]
        assert rows == {"answered": 600, "failed": 1}


async def test_a_bad_line_fails_alone_and_says_what_the_embeddings_route_would_say(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with Site(valkey.url) as site:
        batches = batches_on(site, tmp_path)
        bulk = BulkSide(batches, site.worker(Embedder()))
        some = [line_of("a", "x"), line_of("empty", ""), line_of("b", ["y", "z"])]

        batch = await batches.ended(await batches.create(some))
        await bulk.stop()

        (error,) = batches.errors(batch)
        assert batch.status is Status.COMPLETED
        assert error["custom_id"] == "empty"
        assert error["response"]["status_code"] == 400
        assert error["response"]["body"]["error"]["type"] == "invalid_request_error"
        assert ids(batches.outputs(batch)) == ["a", "b"]
        assert vector_bytes(batches.outputs(batch)[1], 1) == expected("z")


async def test_a_batch_that_cannot_begin_says_why_with_the_line(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with Site(valkey.url) as site:
        batches = batches_on(site, tmp_path)
        embedder = Embedder()
        bulk = BulkSide(batches, site.worker(embedder))
        other = [line_of("a", "x"), line_of("a", "y"), line_of("c", "z", model="other")]

        batch = await batches.ended(await batches.create(other))
        await bulk.stop()

        assert batch.status is Status.FAILED
        problems = batch.fields[BatchField.ERRORS]
        assert b"duplicate_custom_id" in problems
        assert b"mismatched_model" in problems
        assert embedder.calls == []


async def test_a_batch_whose_input_is_gone_fails(valkey: RedisServer, tmp_path: Path) -> None:
    async with Site(valkey.url) as site:
        batches = batches_on(site, tmp_path)
        batch_id = await batches.create(lines(3))
        batches.store.delete((await batches.read(batch_id)).record.input_path)
        bulk = BulkSide(batches, site.worker(Embedder()))

        batch = await batches.ended(batch_id)
        await bulk.stop()

        assert batch.status is Status.FAILED
        assert b"input_file_missing" in batch.fields[BatchField.ERRORS]


async def test_after_a_crash_another_worker_goes_on_and_every_line_is_there_once(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with Site(valkey.url) as site:
        batches = batches_on(site, tmp_path)
        embedder = Embedder(latency_s=0.05)
        batch_id = await batches.create(lines(6_000))
        for number in range(3):
            victim = BulkSide(batches, site.worker(embedder, f"victim{number}"))
            await batches.progressed(batch_id, 1_000 * (number + 1))
            await victim.kill()
            await site.call("HSET", site.names.bulk_lease, "until", "0")  # it would lapse in 6 s

        bulk = BulkSide(batches, site.worker(embedder, "heir"))
        batch = await batches.ended(batch_id)
        await until(site.is_rolled_up, "its records are rolled up")
        await bulk.stop()

        booked = await batches.booked_of(batch_id)
        used = sum(token_count(f"text {n}") for n in range(6_000))
        assert batch.status is Status.COMPLETED
        assert ids(batches.outputs(batch)) == names(6_000)
        assert balances(booked)
        assert sum(one.requests for one in booked) == 6_000
        assert sum(one.used for one in booked) == batch.number(BatchField.TOKENS) == used
        assert len(embedder.inputs) <= 6_000 + 3 * 16_384


async def test_three_batches_progress_evenly_and_the_smallest_ends_first(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with Site(valkey.url) as site:
        batches = batches_on(site, tmp_path)
        embedder = Embedder(latency_s=0.1)
        sizes = {"a": 9_000, "b": 3_000, "c": 6_000}
        made = {
            name: await batches.create(lines(count, prefix=name)) for name, count in sizes.items()
        }
        bulk = BulkSide(batches, site.worker(embedder))

        await batches.ended(made["b"])
        done = {name: await batches.read(batch_id) for name, batch_id in made.items()}
        for batch_id in made.values():
            await batches.ended(batch_id)
        await bulk.stop()

        finished = [batch.status is Status.COMPLETED for batch in done.values()]
        assert finished == [False, True, False]
        given = [text[0] for text in embedder.inputs if isinstance(text, str)]
        all_run_at = max(given.index(name) for name in sizes)
        b_ended_at = max(at for at, name in enumerate(given) if name == "b")
        shares = [given[all_run_at:b_ended_at].count(name) for name in sizes]
        assert max(shares) <= 1.3 * min(shares)


async def test_a_cancelled_batch_keeps_what_was_answered_and_names_the_rest(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with Site(valkey.url) as site:
        batches = batches_on(site, tmp_path)
        embedder = Embedder(latency_s=0.05)
        bulk = BulkSide(batches, site.worker(embedder))
        batch_id = await batches.create(lines(20_000))
        await batches.progressed(batch_id, 1)

        await batches.cancel(batch_id)
        async with asyncio.timeout(5.0):
            batch = await batches.ended(batch_id)
        await bulk.stop()

        assert batch.status is Status.CANCELLED
        check_split(batches, batch, 20_000, "batch_cancelled")
        assert await paid_in(site) == tokens_of(embedder)
        assert balances(await site.ledger())


async def test_an_expired_batch_keeps_what_was_answered_and_names_the_rest(
    valkey: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "IN_FLIGHT_S", 0.5)
    async with Site(valkey.url) as site:
        batches = batches_on(site, tmp_path)
        embedder = Embedder(latency_s=0.05)
        bulk = BulkSide(batches, site.worker(embedder))
        batch_id = await batches.create(lines(20_000), window_s=7.0)
        await batches.progressed(batch_id, 1)
        embedder.gate.clear()

        batch = await batches.ended(batch_id)
        embedder.gate.set()
        await bulk.stop()

        assert batch.status is Status.EXPIRED
        check_split(batches, batch, 20_000, "batch_expired")


def check_split(batches: Batches, batch: Batch, total: int, code: str) -> None:
    """Every line is in one of the two files, once, and the counts say so."""
    answered, left = batches.outputs(batch), batches.errors(batch)
    assert answered
    assert left
    assert {row["error"]["code"] for row in left} == {code}
    assert sorted([*ids(answered), *ids(left)], key=int) == names(total)
    assert batch.number(BatchField.COMPLETED) == len(answered)
    assert batch.number(BatchField.FAILED) == len(left)


async def test_a_batch_cancelled_before_it_began_ends_without_files(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with Site(valkey.url) as site:
        batches = batches_on(site, tmp_path)
        batch_id = await batches.create(lines(3))
        await batches.cancel(batch_id)
        bulk = BulkSide(batches, site.worker(Embedder()))

        batch = await batches.ended(batch_id)
        await bulk.stop()

        assert batch.status is Status.CANCELLED
        assert batches.outputs(batch) == batches.errors(batch) == []


async def test_a_store_that_is_full_for_a_while_only_delays(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with Site(valkey.url) as site:
        batches = batches_on(site, tmp_path)
        embedder = Embedder()
        batch_id = await batches.create(lines(500))
        batches.store.is_away = True
        bulk = BulkSide(batches, site.worker(embedder))
        await until(lambda: batches.store.refusals > 1, "its results were refused twice")
        assert await batches.status(batch_id) is Status.IN_PROGRESS

        batches.store.is_away = False
        batch = await batches.ended(batch_id)
        await bulk.stop()

        assert batch.status is Status.COMPLETED
        assert ids(batches.outputs(batch)) == names(500)
        assert len(embedder.inputs) == 500


async def test_a_batch_goes_on_after_redis_was_restarted(tmp_path: Path) -> None:
    with RedisServer(appendonly=True, settings={"appendfsync": "always"}) as valkey:
        async with Site(valkey.url) as site:
            batches = batches_on(site, tmp_path)
            embedder = Embedder(latency_s=0.05)
            bulk = BulkSide(batches, site.worker(embedder))
            batch_id = await batches.create(lines(8_000))
            await batches.progressed(batch_id, 1)

            valkey.kill()
            await asyncio.sleep(0.5)  # long enough to be noticed
            valkey.start()
            batch = await batches.ended(batch_id)
            await bulk.stop()

            assert batch.status is Status.COMPLETED
            assert ids(batches.outputs(batch)) == names(8_000)
            assert len(embedder.inputs) == 8_000


# Once in ten runs the waste it looks for is not booked: its leader was cut off while it booked.
@pytest.mark.long
async def test_a_leader_that_loses_its_lease_books_nothing_more(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with Site(valkey.url) as site:
        batches = batches_on(site, tmp_path)
        embedder = Embedder(latency_s=0.05)
        first = BulkSide(batches, site.worker(embedder, "first"))
        batch_id = await batches.create(lines(8_000))
        await batches.progressed(batch_id, 1)

        await site.call("HSET", site.names.bulk_lease, "until", "0")
        second = BulkSide(batches, site.worker(embedder, "second"))
        batch = await batches.ended(batch_id)
        await until(site.is_rolled_up, "its records are rolled up")
        await first.stop()
        await second.stop()

        booked = await batches.booked_of(batch_id)
        assert ids(batches.outputs(batch)) == names(8_000)
        assert sum(one.requests for one in booked if one.reason != FENCED) == 8_000
        assert balances(await site.ledger())
        assert await paid_in(site) == tokens_of(embedder)


async def test_what_a_dead_leader_left_in_the_queue_delays_nobody(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with Site(valkey.url) as site:
        batches = batches_on(site, tmp_path)
        batch_id = await batches.create(lines(3))
        jobs = BulkJobs(site.pool("api-arq"), site.names)
        await jobs.enqueue(batch_id, job_id=batch_id)
        await site.call("SET", f"arq:in-progress:{batch_id}", "1", "EX", "70")

        bulk = BulkSide(batches, site.worker(Embedder()))
        async with asyncio.timeout(5.0):
            batch = await batches.ended(batch_id)
        await bulk.stop()
        await jobs.close()

        assert batch.status is Status.COMPLETED


async def test_more_batches_than_may_run_at_once_wait_in_the_order_of_their_creation(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with Site(valkey.url) as site:
        batches = batches_on(site, tmp_path)
        made = [await batches.create(lines(2, prefix=f"{n}-")) for n in range(20)]
        bulk = BulkSide(batches, site.worker(Embedder()))

        ended = [await batches.ended(batch_id) for batch_id in made]
        await bulk.stop()

        assert {batch.status for batch in ended} == {Status.COMPLETED}
        begun = [batch.time(BatchField.IN_PROGRESS_AT) or 0 for batch in ended]
        # Those that run at once may overtake each other, and no others.
        assert all(
            later >= earlier for earlier, later in zip(begun, begun[MAX_RUNNING:], strict=False)
        )


async def test_a_key_that_is_blocked_sends_nothing_more(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with Site(valkey.url) as site:
        batches = batches_on(site, tmp_path)
        embedder = Embedder()
        bulk = BulkSide(batches, site.worker(embedder))
        batch_id = await batches.create(lines(3), key_id="gone")  # it was deleted

        batch = await batches.ended(batch_id)
        await bulk.stop()

        assert batch.status is Status.COMPLETED
        assert {row["response"]["status_code"] for row in batches.errors(batch)} == {401}
        assert ids(batches.errors(batch)) == names(3)
        assert embedder.calls == []


async def test_after_all_is_over_every_name_has_an_end(valkey: RedisServer, tmp_path: Path) -> None:
    async with Site(valkey.url) as site:
        batches = batches_on(site, tmp_path)
        bulk = BulkSide(batches, site.worker(Embedder()))
        batch = await batches.ended(await batches.create([*lines(100), line_of("bad", "")]))
        await until(site.is_rolled_up, "its records are rolled up")
        await bulk.stop()

        bounded = re.compile(r".*:{bulk}:(contents|active)")
        left = await names_without_an_end(site)
        assert [name for name in left if not bounded.fullmatch(name)] == []
        assert await site.call("EXISTS", site.lane.booked(batch.record.id)) == 0
        assert await site.call("KEYS", "arq:*") == []


class Tripping(Store):
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
    async with Site(valkey.url) as site:
        store = Tripping(f"file://{tmp_path}")
        batches = Batches(site, store)
        embedder = Embedder()
        batch_id = await batches.create([*lines(50), line_of("bad", "")])
        store.trips = trips
        bulk = BulkSide(batches, site.worker(embedder))

        batch = await batches.ended(batch_id)
        await bulk.stop()

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


async def test_a_batch_that_crashes_again_and_again_fails_and_keeps_what_it_has(
    valkey: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.01)
    async with Site(valkey.url) as site:
        batches = batches_on(site, tmp_path)
        embedder = Embedder(latency_s=0.02)
        batch_id = await batches.create(lines(9_000))
        right, parts = batches.store.writer, itertools.count()

        def writer(path: str) -> StoredFile:
            if path.startswith("batches/") and next(parts):
                raise ZeroDivisionError
            return right(path)

        monkeypatch.setattr(batches.store, "writer", writer)
        bulk = BulkSide(batches, site.worker(embedder))

        batch = await batches.ended(batch_id)
        await bulk.stop()

        assert batch.status is Status.FAILED
        assert b"internal_error" in batch.fields[BatchField.ERRORS]
        answered = ids(batches.outputs(batch))
        assert answered
        assert answered == names(len(answered))


class Stuttering(Store):
    """A store that breaks off readings of an input after some of it, all but its validation."""

    breaks = 0
    is_validated = False

    @override
    def read(self, path: str, *, offset: int = 0) -> Iterator[bytes]:
        chunks = super().read(path, offset=offset)
        is_input, self.is_validated = self.is_validated and self.breaks > 0, True
        if not is_input:
            return chunks
        self.breaks -= 1
        return self._broken(chunks)

    def _broken(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        yield next(chunks)[:40_000]
        raise StoreUnavailable("The file store cannot be used")


async def test_an_input_that_can_be_read_only_in_pieces_is_read_whole(
    valkey: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.01)
    async with Site(valkey.url) as site:
        store = Stuttering(f"file://{tmp_path}")
        batches = Batches(site, store)
        store.breaks = 6
        embedder = Embedder()
        batch_id = await batches.create(lines(3_000))
        bulk = BulkSide(batches, site.worker(embedder))

        batch = await batches.ended(batch_id)
        await bulk.stop()

        assert store.breaks == 0
        assert batch.status is Status.COMPLETED
        assert ids(batches.outputs(batch)) == names(3_000)
        assert len(embedder.inputs) == 3_000


async def test_a_provider_that_fails_for_a_while_costs_time_and_no_line(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with Site(valkey.url) as site:
        batches = batches_on(site, tmp_path)
        embedder = Failing(failures=4)
        bulk = BulkSide(batches, site.worker(embedder))

        batch = await batches.ended(await batches.create(lines(200)))
        await bulk.stop()

        assert embedder.failures == 0
        assert batch.status is Status.COMPLETED
        assert ids(batches.outputs(batch)) == names(200)


class Failing(Embedder):
    """A provider that is not there for the first calls."""

    def __init__(self, *, failures: int) -> None:
        super().__init__()
        self.failures = failures

    @override
    async def embed(self, call: ProviderCall) -> ProviderAnswer:
        if self.failures:
            self.failures -= 1
            raise ProviderUnavailable("nobody there")
        return await super().embed(call)


async def test_a_cancelled_batch_waits_only_so_long_for_what_is_on_its_way(
    valkey: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "IN_FLIGHT_S", 0.5)
    async with Site(valkey.url) as site:
        batches = batches_on(site, tmp_path)
        embedder = Embedder()
        bulk = BulkSide(batches, site.worker(embedder))
        embedder.gate.clear()
        batch_id = await batches.create(lines(1_000))
        await until(lambda: bool(embedder.calls), "some of it is on its way")

        await batches.cancel(batch_id)
        async with asyncio.timeout(5.0):
            batch = await batches.ended(batch_id)
        embedder.gate.set()
        on_its_way = sum(map(token_count, embedder.inputs))
        await until(lambda: tokens_of(embedder) == on_its_way, "the calls have come back")

        async def is_booked() -> bool:
            return await paid_in(site) == on_its_way

        await until(is_booked, "what was paid in vain is booked")
        await bulk.stop()

        assert batch.status is Status.CANCELLED
        assert ids(batches.errors(batch)) == names(1_000)
        assert {record.reason for record in await site.ledger() if record.paid} == {FENCED}


async def test_a_key_that_is_blocked_while_its_batch_runs_sends_nothing_more(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with Site(valkey.url) as site:
        batches = batches_on(site, tmp_path)
        bulk = BulkSide(batches, site.worker(Embedder(latency_s=0.1)))
        key = KeyRecord(id="k", digest="d", name="sk-…")
        name = site.names.account("key:k").account
        await site.call("HSET", name, RECORD, msgspec.json.encode(key))
        batch_id = await batches.create(lines(30_000), key_id="k")
        await batches.progressed(batch_id, 1)

        blocked = msgspec.structs.replace(key, is_blocked=True)
        await site.call("HSET", name, RECORD, msgspec.json.encode(blocked))
        batch = await batches.ended(batch_id)
        await bulk.stop()

        assert batch.status is Status.COMPLETED
        answered, refused = ids(batches.outputs(batch)), batches.errors(batch)
        assert answered == names(len(answered))
        assert {row["response"]["status_code"] for row in refused} == {401}
        assert [*answered, *ids(refused)] == names(30_000)


async def test_a_bulk_request_does_not_wait_for_a_whole_window_of_a_batch(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with Site(valkey.url) as site:
        batches = batches_on(site, tmp_path)
        embedder = Embedder(latency_s=0.2)
        bulk = BulkSide(batches, site.worker(embedder))
        batch_id = await batches.create(lines(15_000))
        api = site.api()
        await until(lambda: len(embedder.inputs) > 2_000, "the batch runs")

        before = len(embedder.inputs)
        answers = await api.ask("over http", lane_class=LaneClass.BULK)
        sent_before_it = embedder.inputs.index("over http") - before
        await batches.cancel(batch_id)
        await batches.ended(batch_id)
        await bulk.stop()

        assert answers == [expected("over http")]
        assert sent_before_it < 2_000
