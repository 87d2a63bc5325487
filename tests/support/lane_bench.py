"""A lane on a bench: real lane, dispatcher and permits between fakes of everything around them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

from embedpool_shared.jobs import Input, JobReply, LaneClass, LedgerRecord
from embedpool_worker.calls import Calls
from embedpool_worker.caps import Caps
from embedpool_worker.deployments import Adapter, Deployment, ProviderKey
from embedpool_worker.dispatch import Dispatcher
from embedpool_worker.endings import Ending
from embedpool_worker.held import HeldJob, HeldPack
from embedpool_worker.lane import Lane, LaneBounds
from embedpool_worker.permits import Permits
from embedpool_worker.providers.port import ProviderAnswer, ProviderCall
from embedpool_worker.witness import LaneWitness

LINGER_S: Final = 0.010
BULK_LINGER_S: Final = 0.025
DIMS: Final = 2


def vector_of(given: Input) -> bytes:
    """The one vector of an input; no two inputs share one."""
    return blake2b(repr(given).encode(), digest_size=4 * DIMS).digest()


def deployment(
    *keys: str, id_: str = "d", provider: str = "openai", max_items: int = 64, **more: Any
) -> Deployment:
    """Describe a deployment with a key of each of these names, or without any."""
    fields: dict[str, Any] = {
        "caps": Caps(max_items=max_items, max_item_tokens=8_191),
        "adapter": Adapter.OPENAI_WIRE,
        "upstream_model": "upstream",
    }
    held = tuple(ProviderKey(key, f"secret-{key}") for key in keys)
    return Deployment(id=id_, provider=provider, keys=held, **(fields | more))


@dataclass
class Made:
    """One call the fake provider saw."""

    at: float
    call: ProviderCall

    @property
    def inputs(self) -> list[Input]:
        """What was sent."""
        return list(self.call.inputs)


@dataclass
class FakeProvider:
    """Answers after `takes_s`; `objection` may return an error to raise instead."""

    takes_s: float = 0.050
    objection: Callable[[ProviderCall], BaseException | None] = lambda _: None
    calls: list[Made] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    total_tokens: int | None = None
    dims: int = DIMS

    async def embed(self, call: ProviderCall) -> ProviderAnswer:
        self.calls.append(Made(asyncio.get_running_loop().time(), call))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.takes_s)
        finally:
            self.in_flight -= 1
        error = self.objection(call)
        if error is not None:
            raise error
        vectors = [(vector_of(given) * self.dims)[: 4 * self.dims] for given in call.inputs]
        return ProviderAnswer(vectors, self.dims, "theirs", self.total_tokens)

    async def close(self) -> None:
        """Nothing to give back."""

    @property
    def batches(self) -> list[list[Input]]:
        """The inputs of each call."""
        return [made.inputs for made in self.calls]

    @property
    def times(self) -> list[float]:
        """When each call was made."""
        return [made.at for made in self.calls]


@dataclass
class FakeCommitter:
    """Remembers endings; a job has ended from then on, as with the real one."""

    endings: list[Ending] = field(default_factory=list)
    ended_at: list[float] = field(default_factory=list)
    wasted: list[LedgerRecord] = field(default_factory=list)

    def end(self, endings: Iterable[Ending]) -> None:
        for ending in endings:
            assert not ending.job.has_ended, "a job ends once"
            ending.job.has_ended = True
            ending.job.pack.open.pop(ending.job.job.number)
            self.endings.append(ending)
            self.ended_at.append(asyncio.get_running_loop().time())

    def waste(self, record: LedgerRecord) -> None:
        self.wasted.append(record)

    def reply_to(self, pack: HeldPack, number: int = 0) -> JobReply:
        """The reply to one job of a pack; there must be exactly one."""
        (reply,) = [
            ending.reply
            for ending in self.endings
            if ending.job.pack is pack and ending.reply.number == number
        ]
        return reply

    def kinds(self) -> list[str]:
        """What each ending was: the kind of its error, or "" for vectors."""
        return [e.reply.error.kind if e.reply.error else "" for e in self.endings]

    def is_right(self, pack: HeldPack) -> bool:
        """Tell whether every job of a pack got exactly its own vectors, in order and once."""
        endings = [ending for ending in self.endings if ending.job.pack is pack]
        numbers = sorted(ending.reply.number for ending in endings)
        return numbers == list(pack.numbers) and all(
            ending.reply.vectors == b"".join(map(vector_of, ending.job.job.inputs))
            and ending.reply.dims == DIMS
            for ending in endings
        )


@dataclass
class FakeMarks:
    """Knows which jobs were cancelled; `takes_s` is Redis' round trip."""

    cancelled: set[tuple[str, int]] = field(default_factory=set)
    reads: list[list[str]] = field(default_factory=list)
    takes_s: float = 0.0

    async def read(self, packs: Collection[HeldPack]) -> None:
        self.reads.append([pack.pack_id for pack in packs])
        await asyncio.sleep(self.takes_s)
        for pack in packs:
            pack.checked_at = asyncio.get_running_loop().time()
            for number, job in pack.open.items():
                job.is_cancelled = (pack.pack_id, number) in self.cancelled


@dataclass
class Bench:
    """What a test looks at."""

    lane: Lane
    permits: Permits
    dispatcher: Dispatcher
    provider: FakeProvider
    committer: FakeCommitter
    marks: FakeMarks
    deployments: Sequence[Deployment]

    def admit(self, pack: HeldPack) -> HeldPack:
        """Hand a pack to the lane as the reader does."""
        self.lane.admit(pack)
        return pack


async def _count_in(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


@asynccontextmanager
async def bench(
    *deployments: Deployment,
    provider: FakeProvider | None = None,
    slots: int = 8,
    max_waiting_items: int = 10_000,
    deployments_of: Callable[[HeldJob], Sequence[Deployment]] | None = None,
    count_in: Callable[..., Any] = _count_in,
    witness: LaneWitness | None = None,
) -> AsyncIterator[Bench]:
    """Put a lane on the bench; leaving waits until it has nothing more to do."""
    places = deployments or (deployment(),)
    permits = Permits(slots_per_key=slots)
    committer: Any = FakeCommitter()
    marks: Any = FakeMarks()
    there = provider or FakeProvider()
    calls = Calls(permits, lambda _: there, count_in=count_in, witness=witness)
    dispatcher = Dispatcher(calls, committer)
    async with asyncio.TaskGroup() as tasks:
        lane = Lane(
            deployments_of=deployments_of or (lambda _: places),
            permits=permits,
            dispatcher=dispatcher,
            marks=marks,
            bounds=LaneBounds(
                linger_s={LaneClass.INTERACTIVE: LINGER_S, LaneClass.BULK: BULK_LINGER_S},
                max_waiting_items=max_waiting_items,
            ),
            spawn=tasks.create_task,
        )
        yield Bench(lane, permits, dispatcher, there, committer, marks, places)
