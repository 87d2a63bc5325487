"""What is stored of an answer, what never is, and that nobody waits for it."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest

from embedpool_shared.jobs import CacheUse
from embedpool_shared.names import Names
from embedpool_worker import storing as storing_module
from embedpool_worker.cached_vectors import CachedVector, Spaces, content_of, written
from embedpool_worker.held import HeldPack, items_of
from embedpool_worker.packing import distinct
from embedpool_worker.providers.port import ProviderAnswer
from embedpool_worker.storing import CacheBounds, Storing, may_be_kept
from support.fake_line import FakeLine, Told
from support.held import MERGE, pack_of
from support.lane_bench import DIMS, deployment, vector_of
from support.virtual_time import in_virtual_time

PLACES = [deployment()]


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def name_of(text: str) -> str:
    return Names().vector(digest(content_of(Spaces().of(MERGE, PLACES), text)))


def store_on(line: FakeLine) -> Storing:
    any_line: Any = line
    return Storing(any_line, Names(), digest, Spaces(), CacheBounds(60.0, 1_000_000))


def keep(storing: Storing, pack: HeldPack) -> None:
    items = [item for job in pack.open.values() for item in items_of(job)]
    firsts, where = distinct(items)
    inputs = [item.input for item in firsts.values()]
    answer = ProviderAnswer([vector_of(given) for given in inputs], DIMS, "theirs", 9)
    tokens = {place: len(str(given)) for place, given in enumerate(inputs)}
    storing.keep(MERGE, PLACES, may_be_kept(items, where), answer, tokens)


def stored(line: FakeLine, *packs: HeldPack, for_s: float = 1.0) -> Storing:
    async def run() -> Storing:
        storing = store_on(line)
        running = asyncio.ensure_future(storing.run())
        for pack in packs:
            keep(storing, pack)
            await asyncio.sleep(for_s)
        running.cancel()
        return storing

    return in_virtual_time(run())


def roomy(told: Told) -> Any:
    return 1 if told.what == "room" else b"OK"


def test_each_input_of_an_answer_is_stored_once_under_its_name() -> None:
    line = FakeLine(answer=roomy)

    storing = stored(line, pack_of(["a", "bb"], ["a"]))

    assert [told.arguments for told in line.told_of("SET")] == [
        [name_of(text), written(CachedVector(vector_of(text), len(text), "theirs")), "PX", 60_000]
        for text in ("a", "bb")
    ]
    assert storing.stored == 2


def test_what_is_stored_is_what_at_least_one_caller_allows() -> None:
    pack = pack_of(["mine"], ["secret"], ["both"], ["both"])
    pack.open[0].job.cache = CacheUse.READ
    pack.open[1].job.sealed = b"a caller's own key"
    pack.open[2].job.cache = CacheUse.NEITHER
    line = FakeLine(answer=roomy)

    stored(line, pack)

    assert [told.arguments[0] for told in line.told_of("SET")] == [name_of("both")]


def test_a_full_cache_is_left_alone_for_a_while() -> None:
    line = FakeLine(answer=lambda told: 0 if told.what == "room" else b"OK")

    storing = stored(line, *(pack_of([f"t{n}"]) for n in range(4)))

    assert len(line.told_of("room")) == 1
    assert not line.told_of("SET")
    assert storing.stored == 0


def test_a_cache_that_is_away_costs_nothing_but_what_it_missed() -> None:
    line = FakeLine(answer=roomy, is_away=True)

    async def run() -> Storing:
        storing = store_on(line)
        running = asyncio.ensure_future(storing.run())
        keep(storing, pack_of(["missed"]))
        await asyncio.sleep(2.0)
        line.is_away = False
        keep(storing, pack_of(["kept"]))
        await asyncio.sleep(2.0)
        running.cancel()
        return storing

    in_virtual_time(run())

    assert [told.arguments[0] for told in line.told_of("SET")] == [name_of("kept")]


def test_what_waits_to_be_stored_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing_module, "MAX_QUEUED_BYTES", 1_000)

    async def run() -> Storing:
        storing = store_on(FakeLine(answer=roomy))
        for n in range(100):
            keep(storing, pack_of([f"t{n}"]))
        return storing

    storing = in_virtual_time(run())

    kept = 1_000 // (4 * DIMS + storing_module.ENTRY_BYTES)
    assert storing.dropped == 100 - kept


def test_a_flood_is_written_in_bounded_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing_module, "BYTES_PER_WRITE", 1_000)
    line = FakeLine(answer=roomy)

    stored(line, pack_of([f"t{n}" for n in range(20)]))

    sizes = [told.arguments[2] for told in line.told_of("room")]
    assert len(sizes) > 1
    assert max(sizes) <= 1_000 + 4 * DIMS + storing_module.ENTRY_BYTES
    assert len(line.told_of("SET")) == 20
