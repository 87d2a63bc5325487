"""Batches from creation to results, through a real pool and a real server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from typing_extensions import override

from embedpool_shared.accounts import RECORD, KeyRecord
from embedpool_shared.batches import BatchField, Status
from embedpool_shared.errors import ProviderUnavailable, StoreUnavailable
from embedpool_shared.jobs import LaneClass
from embedpool_worker.bulk import patience
from embedpool_worker.bulk.attending import MAX_RUNNING
from embedpool_worker.bulk.booking import FORGOTTEN_AFTER_S
from embedpool_worker.providers.port import ProviderAnswer, ProviderCall
from integration.batches import (
    PRICE,
    balances,
    batches_at,
    expected,
    ids,
    line_of,
    lines,
    names,
    tokens_of,
    vector_bytes,
)
from integration.one_process import MODEL, Embedder, until
from integration.test_quiescence import names_without_an_end
from support.stores import FolderStore
from support.valkey import RedisServer
from support.vectors import token_count

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")


async def test_a_batch_gives_every_line_its_own_vectors_in_the_order_of_the_file(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with batches_at(valkey, tmp_path) as batches:
        batches.run(Embedder(latency_s=0.002))

        batch = await batches.ended(await batches.create(lines(2_000)))

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
    async with batches_at(valkey, tmp_path) as batches:
        rows: dict[str, int] = {}

        def count(outcome: str, ended: int) -> None:
            rows[outcome] = rows.get(outcome, 0) + ended

        embedder = Embedder()
        batches.run(embedder, rows_ended=count)
        twice = [*lines(300), *lines(300, prefix="x"), line_of("bad", "")]
        twice[5]["body"]["input"] = "text 4"  # the same text is paid for once

        batch = await batches.ended(await batches.create(twice))
        await batches.rolled_up()

        booked = await batches.booked_of(batch.record.id)
        used = sum(token_count(f"text {n}") + token_count(f"xtext {n}") for n in range(300))
        used += token_count("text 4") - token_count("text 5")
        assert balances(booked)
        assert sum(one.requests for one in booked) == 600
        assert sum(one.used for one in booked) == batch.number(BatchField.TOKENS) == used
        assert batch.number(BatchField.COST_PICO_USD) == used * PRICE
        assert sum(one.paid for one in booked) == tokens_of(embedder)
        for account in ("key:k", "team:t", f"model:{MODEL}", "global:all"):
            name = batches.site.names.account(account).account
            found = await batches.site.call("HMGET", name, "requests", "cost", "used")
            assert list(map(int, found)) == [600, used * PRICE, used]
        assert rows == {"answered": 600, "failed": 1}


async def test_a_bad_line_fails_alone_and_says_what_the_embeddings_route_would_say(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with batches_at(valkey, tmp_path) as batches:
        batches.run(Embedder())
        some = [line_of("a", "x"), line_of("empty", ""), line_of("b", ["y", "z"])]

        batch = await batches.ended(await batches.create(some))

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
    async with batches_at(valkey, tmp_path) as batches:
        embedder = Embedder()
        batches.run(embedder)
        other = [line_of("a", "x"), line_of("a", "y"), line_of("c", "z", model="other")]

        batch = await batches.ended(await batches.create(other))

        assert batch.status is Status.FAILED
        problems = batch.fields[BatchField.ERRORS]
        assert b"duplicate_custom_id" in problems
        assert b"mismatched_model" in problems
        assert embedder.calls == []


async def test_a_batch_whose_input_is_gone_fails(valkey: RedisServer, tmp_path: Path) -> None:
    async with batches_at(valkey, tmp_path) as batches:
        batch_id = await batches.create(lines(3))
        batches.store.delete((await batches.read(batch_id)).record.input_path)
        batches.run(Embedder())

        batch = await batches.ended(batch_id)

        assert batch.status is Status.FAILED
        assert b"input_file_missing" in batch.fields[BatchField.ERRORS]


async def test_three_batches_progress_evenly_and_the_smallest_ends_first(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with batches_at(valkey, tmp_path) as batches:
        embedder = Embedder(latency_s=0.1)
        sizes = {"a": 9_000, "b": 3_000, "c": 6_000}
        made = {
            name: await batches.create(lines(count, prefix=name)) for name, count in sizes.items()
        }
        batches.run(embedder)

        await batches.ended(made["b"])
        done = {name: await batches.read(batch_id) for name, batch_id in made.items()}
        for batch_id in made.values():
            await batches.ended(batch_id)

        finished = [batch.status is Status.COMPLETED for batch in done.values()]
        assert finished == [False, True, False]
        given = [text[0] for text in embedder.inputs if isinstance(text, str)]
        all_run_at = max(given.index(name) for name in sizes)
        b_ended_at = max(at for at, name in enumerate(given) if name == "b")
        shares = [given[all_run_at:b_ended_at].count(name) for name in sizes]
        assert max(shares) <= 1.3 * min(shares)


async def test_more_batches_than_may_run_at_once_wait_in_the_order_of_their_creation(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with batches_at(valkey, tmp_path) as batches:
        made = [await batches.create(lines(2, prefix=f"{n}-")) for n in range(20)]
        batches.run(Embedder())

        ended = [await batches.ended(batch_id) for batch_id in made]

        assert {batch.status for batch in ended} == {Status.COMPLETED}
        begun = [batch.time(BatchField.IN_PROGRESS_AT) or 0 for batch in ended]
        # Those that run at once may overtake each other, and no others.
        assert all(
            later >= earlier for earlier, later in zip(begun, begun[MAX_RUNNING:], strict=False)
        )


async def test_a_key_that_is_blocked_sends_nothing_more(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with batches_at(valkey, tmp_path) as batches:
        embedder = Embedder()
        batches.run(embedder)
        batch_id = await batches.create(lines(3), key_id="gone")  # it was deleted

        batch = await batches.ended(batch_id)

        assert batch.status is Status.COMPLETED
        assert {row["response"]["status_code"] for row in batches.errors(batch)} == {401}
        assert ids(batches.errors(batch)) == names(3)
        assert embedder.calls == []


async def test_after_all_is_over_every_name_has_an_end(valkey: RedisServer, tmp_path: Path) -> None:
    async with batches_at(valkey, tmp_path) as batches:
        bulk = batches.run(Embedder())
        batch = await batches.ended(await batches.create([*lines(100), line_of("bad", "")]))
        await batches.rolled_up()
        await bulk.stop()

        bounded = re.compile(r".*:{bulk}:(contents|active)")
        left = await names_without_an_end(batches.site)
        assert [name for name in left if not bounded.fullmatch(name)] == []
        assert (
            await batches.site.call("TTL", batches.site.lane.booked(batch.record.id))
            <= FORGOTTEN_AFTER_S
        )
        assert await batches.site.call("KEYS", "arq:*") == []


class Stuttering(FolderStore):
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
    store = Stuttering(f"file://{tmp_path}")
    async with batches_at(valkey, tmp_path, store=store) as batches:
        store.breaks = 6
        embedder = Embedder()
        batch_id = await batches.create(lines(3_000))
        batches.run(embedder)

        batch = await batches.ended(batch_id)

        assert store.breaks == 0
        assert batch.status is Status.COMPLETED
        assert ids(batches.outputs(batch)) == names(3_000)
        assert len(embedder.inputs) == 3_000


async def test_a_provider_that_fails_for_a_while_costs_time_and_no_line(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with batches_at(valkey, tmp_path) as batches:
        embedder = Failing(failures=4)
        batches.run(embedder)

        batch = await batches.ended(await batches.create(lines(200)))

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


async def test_a_key_that_is_blocked_while_its_batch_runs_sends_nothing_more(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with batches_at(valkey, tmp_path) as batches:
        batches.run(Embedder(latency_s=0.1))
        key = KeyRecord(id="k", digest="d", name="sk-…")
        name = batches.site.names.account("key:k").account
        await batches.site.call("HSET", name, RECORD, msgspec.json.encode(key))
        batch_id = await batches.create(lines(30_000), key_id="k")
        await batches.progressed(batch_id, 1)

        blocked = msgspec.structs.replace(key, is_blocked=True)
        await batches.site.call("HSET", name, RECORD, msgspec.json.encode(blocked))
        batch = await batches.ended(batch_id)

        assert batch.status is Status.COMPLETED
        answered, refused = ids(batches.outputs(batch)), batches.errors(batch)
        assert answered == names(len(answered))
        assert {row["response"]["status_code"] for row in refused} == {401}
        assert [*answered, *ids(refused)] == names(30_000)


async def test_a_bulk_request_does_not_wait_for_a_whole_window_of_a_batch(
    valkey: RedisServer, tmp_path: Path
) -> None:
    async with batches_at(valkey, tmp_path) as batches:
        embedder = Embedder(latency_s=0.2)
        batches.run(embedder)
        batch_id = await batches.create(lines(15_000))
        api = batches.site.api()
        await until(lambda: len(embedder.inputs) > 2_000, "the batch runs")

        before = len(embedder.inputs)
        answers = await api.ask("over http", lane_class=LaneClass.BULK)
        sent_before_it = embedder.inputs.index("over http") - before
        await batches.cancel(batch_id)
        await batches.ended(batch_id)

        assert answers == [expected("over http")]
        assert sent_before_it < 2_000
