"""What the cache knows reaches the right items, and a cache that is slow or away is a miss."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from embedpool_shared.jobs import CacheUse
from embedpool_shared.names import Names
from embedpool_worker.cached_vectors import CachedVector, Spaces, content_of, written
from embedpool_worker.deployments import Deployment
from embedpool_worker.held import HeldJob, HeldPack
from embedpool_worker.recall import PATIENCE_S, VECTORS_PER_EXCHANGE, Recall
from support.fake_line import FakeLine, Told
from support.held import MERGE, pack_of
from support.lane_bench import deployment, vector_of
from support.virtual_time import in_virtual_time

PLACES = [deployment()]


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def name_of(text: str) -> str:
    return Names().vector(digest(content_of(Spaces().of(MERGE, PLACES), text)))


def knowing(*texts: str, **more: Any) -> FakeLine:
    """A cache with these texts' vectors in it."""
    stored = {
        name_of(text): written(CachedVector(vector_of(text), len(text), "theirs")) for text in texts
    }

    def answer(told: Told) -> Any:
        return [stored.get(name) for name in told.arguments] if told.what == "MGET" else b"PONG"

    return FakeLine(answer=answer, **more)


class Asker:
    """A lane's part: what was taken over again, and when."""

    def __init__(self, line: FakeLine) -> None:
        any_line: Any = line
        self.line = line
        self.recall = Recall(any_line, Names(), digest, Spaces())
        self.taken: list[tuple[HeldPack, list[tuple[HeldJob, str]]]] = []
        self.taken_at: list[float] = []

    def ask(self, pack: HeldPack) -> HeldPack:
        self.recall.look_up(pack, self._deployments_of, self._take)
        return pack

    def _deployments_of(self, _: HeldJob) -> list[Deployment]:
        return PLACES

    def _take(self, pack: HeldPack, complete: list[tuple[HeldJob, str]]) -> None:
        self.taken.append((pack, complete))
        self.taken_at.append(asyncio.get_running_loop().time())


def asked(line: FakeLine, asking: Callable[[Asker], Awaitable[None]]) -> Asker:
    """Run a recall on this line while `asking`."""

    async def run() -> Asker:
        asker = Asker(line)
        running = asyncio.ensure_future(asker.recall.run())
        await asyncio.sleep(0.001)
        await asking(asker)
        await asyncio.sleep(0.2)
        running.cancel()
        return asker

    return in_virtual_time(run())


def asked_for(line: FakeLine, *packs: HeldPack) -> Asker:
    async def asking(asker: Asker) -> None:
        for pack in packs:
            asker.ask(pack)

    return asked(line, asking)


def test_a_job_whose_inputs_are_all_known_is_complete() -> None:
    pack = pack_of(["a", "bb", "a"])
    job = pack.open[0]

    asker = asked_for(knowing("a", "bb"), pack)

    assert asker.taken == [(pack, [(job, "theirs")])]
    assert job.vectors == [vector_of("a"), vector_of("bb"), vector_of("a")]
    assert (job.missing, job.used_tokens, job.cached_tokens, job.cached_items) == (0, 4, 4, 3)
    assert (asker.recall.hits, asker.recall.misses) == (3, 0)


@given(
    st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=6), min_size=1, max_size=6),
    st.sets(st.sampled_from("abcdefgh")),
)
def test_partial_hits_never_mix_up_positions(jobs: list[list[str]], known: set[str]) -> None:
    pack = pack_of(*jobs)

    asker = asked_for(knowing(*known), pack)

    for number, job in pack.open.items():
        assert job.vectors == [vector_of(t) if t in known else None for t in jobs[number]]
        assert job.missing == sum(text not in known for text in jobs[number])
    ((_, complete),) = asker.taken
    assert [job.job.number for job, _ in complete] == [
        number for number, texts in enumerate(jobs) if known.issuperset(texts)
    ]


def test_all_packs_of_a_moment_share_an_exchange() -> None:
    line = knowing("a")

    asker = asked_for(line, *(pack_of(["a"]) for _ in range(5)))

    assert len(line.told_of("MGET")) == 1
    assert len(asker.taken) == 5


def test_a_large_pack_is_asked_for_in_bounded_exchanges() -> None:
    texts = [f"t{n}" for n in range(VECTORS_PER_EXCHANGE + 1)]
    pack = pack_of(*([text] for text in texts))
    line = knowing(*texts)

    asker = asked_for(line, pack)

    assert [len(told.arguments) for told in line.told_of("MGET")] == [VECTORS_PER_EXCHANGE, 1]
    assert len(asker.taken[0][1]) == len(texts)


def test_only_jobs_that_allow_it_are_looked_up() -> None:
    pack = pack_of(["a"], ["a"], ["a"])
    pack.open[0].job.cache = CacheUse.WRITE
    pack.open[1].job.sealed = b"a caller's own key"
    line = knowing("a")

    asker = asked_for(line, pack)

    assert [len(told.arguments) for told in line.told_of("MGET")] == [1]
    assert [job.job.number for job, _ in asker.taken[0][1]] == [2]


def test_vectors_of_different_lengths_are_a_miss() -> None:
    line = knowing("a")
    stored = line.answer

    def answer(told: Told) -> Any:
        reply = stored(told)
        if told.what == "MGET":
            reply[1] = written(CachedVector(b"1234", 1, "older"))
        return reply

    line.answer = answer
    pack = pack_of(["a", "b"])

    asker = asked_for(line, pack)

    assert pack.open[0].vectors == [None, None]
    assert asker.taken == [(pack, [])]


def test_a_slow_cache_delays_nobody_beyond_its_patience_and_the_next_not_at_all() -> None:
    line = knowing("a", takes_s=0.0)

    async def asking(asker: Asker) -> None:
        line.takes_s = 0.5
        asker.ask(pack_of(["a"]))
        await asyncio.sleep(0.1)
        asker.ask(pack_of(["a"]))
        line.takes_s = 0.0
        await asyncio.sleep(0.5)
        asker.ask(pack_of(["a"]))

    asker = asked(line, asking)

    waits = [at - 0.001 - began for at, began in zip(asker.taken_at, (0, 0.1, 0.6), strict=True)]
    assert [round(wait, 4) for wait in waits] == [PATIENCE_S, 0.0, 0.0]
    assert [bool(complete) for _, complete in asker.taken] == [False, False, True]


def test_a_cache_that_is_away_is_a_miss_at_once_and_asked_again_when_it_is_back() -> None:
    line = knowing("a")

    async def asking(asker: Asker) -> None:
        line.is_away = True
        asker.ask(pack_of(["a"]))
        await asyncio.sleep(0.01)
        asker.ask(pack_of(["a"]))
        line.is_away = False
        await asyncio.sleep(2.0)
        asker.ask(pack_of(["a"]))

    asker = asked(line, asking)

    assert [bool(complete) for _, complete in asker.taken] == [False, False, True]
    assert asker.taken_at[1] == asker.taken_at[0] + 0.01


def test_before_the_first_contact_everything_is_a_miss() -> None:
    async def run() -> Asker:
        asker = Asker(knowing("a"))
        asker.ask(pack_of(["a"]))
        return asker

    asker = in_virtual_time(run())

    assert len(asker.taken) == 1
    assert not asker.line.told


def test_a_process_that_was_held_up_itself_goes_on_asking() -> None:
    async def asking(asker: Asker) -> None:
        asker.ask(pack_of(["a"]))
        (alarm,) = [question.alarm for question in {one.question for one in asker.recall._asked}]
        assert alarm is not None
        alarm._run()  # rings before the question has left
        await asyncio.sleep(0.01)
        asker.ask(pack_of(["a"]))

    asker = asked(knowing("a"), asking)

    assert [bool(complete) for _, complete in asker.taken] == [False, True]
