"""Both sides of the Redis path in one process over a real server: apis, workers, a provider."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from redis.asyncio.connection import ConnectionPool
from typing_extensions import override

from embedpool_api.lanes import Lanes
from embedpool_api.observer import Observer
from embedpool_api.outbox import QueueBounds
from embedpool_api.posted import Answer
from embedpool_shared.errors import QueueUnavailable
from embedpool_shared.jobs import (
    Job,
    JobReply,
    LaneClass,
    LedgerRecord,
    MergeKey,
    records_from,
)
from embedpool_shared.names import GROUP, Names
from embedpool_shared.presence import WORKER, Presence
from embedpool_shared.redis import Line, RedisAddress, RedisRefused, connection_pool
from embedpool_worker.caps import Caps
from embedpool_worker.deployments import Adapter, Deployment
from embedpool_worker.pool import Pool
from embedpool_worker.pool_parts import PoolParts, PoolSettings
from embedpool_worker.providers.port import Provider, ProviderAnswer, ProviderCall
from support.posting import marked
from support.vectors import Input, token_count, vector_of

DIMS: Final = 8
MODEL: Final = "m"
MERGE: Final = MergeKey(MODEL)
WIDE: Final = QueueBounds(max_items=100_000, max_bytes=10**9)
L = TypeVar("L", bound="Counting")
_GLANCE_S: Final = 0.01


async def until(
    is_so: Callable[[], bool | Awaitable[bool]], what: str, *, patience_s: float = 10.0
) -> None:
    """Return as soon as `is_so`; fail saying `what` did not happen."""
    give_up_at = asyncio.get_running_loop().time() + patience_s
    while True:
        found = is_so()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return
        assert asyncio.get_running_loop().time() < give_up_at, f"not within {patience_s} s: {what}"
        await asyncio.sleep(_GLANCE_S)


class Counting(Line):
    """A line that counts what it sent."""

    sent = 0

    @override
    async def call(self, *command: Any, **options: Any) -> Any:
        self.sent += 1
        return await super().call(*command, **options)

    @override
    async def call_all(self, commands: Sequence[tuple[Any, ...]], **options: Any) -> list[Any]:
        self.sent += len(commands)
        return await super().call_all(commands, **options)


class Embedder:
    """A provider whose vector derives from the text; `gate` holds its answers back."""

    def __init__(self, *, latency_s: float = 0.0) -> None:
        self.latency_s = latency_s
        self.calls: list[list[Input]] = []
        self.answered: list[list[Input]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    def asks_for(self, given: Input) -> bool:
        """Tell whether it was asked for this."""
        return given in self.inputs

    @property
    def inputs(self) -> list[Input]:
        """Everything it was ever asked for."""
        return [given for call in self.calls for given in call]

    async def embed(self, call: ProviderCall) -> ProviderAnswer:
        self.calls.append(list(call.inputs))
        await asyncio.sleep(self.latency_s)
        await self.gate.wait()
        self.answered.append(list(call.inputs))
        return ProviderAnswer(
            [vector_of(given, DIMS) for given in call.inputs],
            DIMS,
            call.model,
            total_tokens=sum(token_count(given) for given in call.inputs),
        )

    async def close(self) -> None:
        return


def right(texts: Sequence[Input]) -> list[bytes]:
    """The vectors that belong to these texts."""
    return [vector_of(text, DIMS) for text in texts]


def vectors_in(replies: Sequence[JobReply]) -> list[bytes]:
    """Take an answer's vectors apart, in its order."""
    blob = b"".join(reply.vectors for reply in replies)
    return [blob[at : at + 4 * DIMS] for at in range(0, len(blob), 4 * DIMS)]


def job_of(texts: Sequence[Input], *, tokens: int = 0) -> Job:
    """One job of these inputs, as the api's router makes it."""
    size_bytes = sum(len(text) for text in texts)
    return Job(0, 0, list(texts), 0, size_bytes, tokens, "alice")


class ApiSide:
    """One api process' end of the lanes."""

    def __init__(self, site: Site, api_id: str, bounds: QueueBounds, via: str | None) -> None:
        self._site = site
        self.api_id = api_id
        self.lanes = Lanes(
            site.names,
            lambda role: site.line(f"{api_id}-{role}", via=via),
            api_id=api_id,
            bounds=bounds,
            seal=marked,
            spawn=site.spawn,
        )

    def post(
        self,
        *jobs: Sequence[Input],
        model: str = MODEL,
        merge: MergeKey | None = None,
        lane_class: LaneClass = LaneClass.INTERACTIVE,
        patience_s: float = 30.0,
        tokens: int = 0,
    ) -> Answer:
        """Send a request of these jobs on its way."""
        give_up_at = asyncio.get_running_loop().time() + patience_s
        posted = [job_of(texts, tokens=tokens) for texts in jobs]
        answer = Answer(len(posted), asyncio.get_running_loop(), give_up_at=give_up_at)
        self.lanes.post(answer, model, lane_class, merge or MergeKey(model), posted)
        return answer

    async def ask(self, *texts: Input, patience_s: float = 30.0, **options: Any) -> list[bytes]:
        """Post one job of these texts and return their vectors."""
        answer = self.post(texts, patience_s=patience_s, **options)
        async with asyncio.timeout(patience_s):
            return vectors_in(await answer.done)

    async def accepted(self, *answers: Answer) -> None:
        """Return when Redis has confirmed all of these."""
        await until(lambda: all(a.is_accepted for a in answers), "they are enqueued")

    def give_up(self, answer: Answer, *, model: str = MODEL) -> None:
        """Stop waiting for an answer, as a caller does who hangs up."""
        answer.done.cancel()
        self.lanes.abandon(model, answer)

    async def flushed(self, *, model: str = MODEL) -> None:
        """Return when everything posted, repeated or given up so far is known to Redis."""
        probe = self.post(["flushed"], model=model)
        await until(lambda: probe.is_accepted, "the outbox is through")
        (posted,) = probe.jobs
        pack_id = posted.pack.pack_id.encode() if posted.pack else b""
        self.give_up(probe, model=model)

        async def is_gone() -> bool:
            return all(entry[b"id"] != pack_id for entry in await self._site.entries())

        await until(is_gone, "the probe is taken back")


class WorkerSide:
    """One worker's pool."""

    def __init__(self, site: Site, pool: Pool, worker_id: str) -> None:
        self.pool = pool
        self.worker_id = worker_id
        self._task = site.spawn(pool.run())

    async def kill(self) -> None:
        """End it at once, as a crash does: nothing is handed back or committed any more."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def stop(self, *, grace_s: float = 5.0) -> None:
        """Stop it gracefully."""
        await self.pool.stop(grace_s=grace_s)
        await asyncio.wait([self._task])

    @property
    def is_running(self) -> bool:
        """Whether none of its tasks has failed."""
        return not self._task.done()


class Site:
    """What lives under one prefix on one server; leaving it ends and closes all of it."""

    def __init__(self, url: str, *, prefix: str = "ep", ca_file: str | None = None) -> None:
        self.names = Names(prefix)
        self.lane = self.names.lane(MODEL)
        self._url = url
        self._ca_file = ca_file
        self._lines: list[tuple[str, Counting]] = []
        self._pools: list[ConnectionPool] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._own = self.line("test")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        for _, line in self._lines:
            await line.close()
        for pool in self._pools:
            await pool.disconnect()
        failures = [e for e in ended if isinstance(e, Exception)]
        if failures and error is None:
            raise ExceptionGroup("a side failed", failures)

    def line(self, role: str, *, via: str | None = None) -> Counting:
        """Connect, to `via` if it is given."""
        return self.line_of(Counting, role, via=via)

    def line_of(self, kind: type[L], role: str, *, via: str | None = None) -> L:
        """Connect, to `via` if it is given."""
        address = RedisAddress(via or self._url, self._ca_file)
        line = kind(connection_pool(address, client_name=f"t-{role}"))
        self._lines.append((role, line))
        return line

    def pool(self, role: str) -> ConnectionPool:
        """Describe connections for a library that makes its own."""
        address = RedisAddress(self._url, self._ca_file)
        pool = connection_pool(address, client_name=f"t-{role}")
        self._pools.append(pool)
        return pool

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a task until the site is left."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        return task

    def api(
        self, api_id: str = "a1", *, bounds: QueueBounds = WIDE, via: str | None = None
    ) -> ApiSide:
        """Add an api process."""
        return ApiSide(self, api_id, bounds, via)

    def worker(
        self,
        provider: Provider,
        worker_id: str = "w1",
        *,
        lease_s: float = 5.0,
        max_items: int = 64,
        via: str | None = None,
        **more: Any,
    ) -> WorkerSide:
        """Add a worker that makes its calls to `provider`."""
        deployment = Deployment(
            id="d",
            provider="fake",
            upstream_model="m",
            adapter=Adapter.OPENAI_WIRE,
            caps=Caps(max_items=max_items, max_item_tokens=8_000),
        )
        settings = PoolSettings(
            worker_id=worker_id,
            lease_s=lease_s,
            linger_s={LaneClass.INTERACTIVE: 0.003, LaneClass.BULK: 0.025},
            max_leased_items=4_096,
            slots_per_key=8,
        )
        parts = PoolParts(
            names=self.names,
            line=lambda role: self.line(f"{worker_id}-{role}", via=via),
            deployments_of=lambda lane, merge: [deployment],
            adapter_of=lambda deployment: provider,
            count_in=asyncio.to_thread,
            **more,
        )
        return WorkerSide(self, Pool(settings, parts), worker_id)

    async def call(self, *command: Any) -> Any:
        """Ask the server; it may have been away since the last question."""
        async with self._turn:
            try:
                return await self._own.call(*command)
            except RedisRefused:
                raise
            except QueueUnavailable:
                return await self._own.call(*command)

    async def depth(self) -> tuple[int, int, int]:
        """Items, bytes and tokens that the lane counts as waiting."""
        found = await self.call("HMGET", self.lane.depth, "items", "bytes", "tokens")
        return tuple(int(value or 0) for value in found)  # type: ignore[return-value]

    async def ledger(self, model: str = MODEL) -> list[LedgerRecord]:
        """Every record of the lane, rolled up or not, oldest first."""
        waiting = await self.call("XRANGE", self.names.lane(model).ledger, "-", "+")
        entries = {entry_id: flat[1] for entry_id, flat in waiting}
        for _, (_, blob, _, entry_id, _, lane) in await self.call(
            "XRANGE", self.names.spend_log, "-", "+"
        ):
            if lane.decode() == model:
                entries[entry_id] = blob
        in_order = sorted(entries, key=lambda entry_id: [*map(int, entry_id.split(b"-"))])
        return [record for entry_id in in_order for record in records_from(entries[entry_id])]

    async def is_rolled_up(self, model: str = MODEL) -> bool:
        """Tell whether the lane's ledger is empty, and nobody is at it."""
        names = self.names.lane(model)
        is_left = await self.call("XLEN", names.ledger)
        return not is_left and not await self.call("EXISTS", names.roll)

    async def entries(
        self, lane_class: LaneClass = LaneClass.INTERACTIVE
    ) -> list[dict[bytes, bytes]]:
        """The fields of every entry in the lane's stream."""
        found = await self.call("XRANGE", self.lane.stream(lane_class), "-", "+")
        return [dict(zip(flat[::2], flat[1::2], strict=True)) for _, flat in found]

    async def has_lanes(self, models: list[str]) -> bool:
        """Tell whether exactly these lanes are announced."""
        found = await self.call("XRANGE", self.names.lanes, "-", "+")
        return [fields[1].decode() for _, fields in found] == models

    async def waiting(self, lane_class: LaneClass = LaneClass.INTERACTIVE) -> int:
        """How many entries the lane's stream has, delivered or not."""
        return int(await self.call("XLEN", self.lane.stream(lane_class)))

    async def pending(self, consumer: str = "") -> int:
        """How many interactive entries are leased, to this consumer or at all."""
        try:
            summary = await self.call("XPENDING", self.lane.stream(LaneClass.INTERACTIVE), GROUP)
        except QueueUnavailable:
            return 0  # no group, no leases
        if not consumer:
            return int(summary[0])
        return sum(int(n) for name, n in summary[3] or [] if name.decode() == consumer)

    async def has_pending(self, count: int) -> bool:
        """Tell whether exactly so many interactive entries are leased."""
        return await self.pending() == count

    async def holds_anything(self, consumer: str) -> bool:
        """Tell whether this consumer has leases."""
        return await self.pending(consumer) > 0

    async def holds_nothing(self, consumer: str) -> bool:
        """Tell whether this consumer has no leases."""
        return not await self.holds_anything(consumer)

    async def consumers(self) -> list[str]:
        """Who the interactive stream's group knows."""
        stream = self.lane.stream(LaneClass.INTERACTIVE)
        found = await self.call("XINFO", "CONSUMERS", stream, GROUP)
        return [dict(zip(flat[::2], flat[1::2], strict=True))[b"name"].decode() for flat in found]

    async def has_consumers(self, names: set[str]) -> bool:
        """Tell whether the group knows exactly these."""
        return await self.has_group() and set(await self.consumers()) == names

    async def commands_by_process(self) -> Counter[str]:
        """How many commands each process has sent so far; a script counts as one."""
        counts: Counter[str] = Counter()
        for role, line in self._lines:
            counts[role.partition("-")[0]] += line.sent
        for line in (await self.call("CLIENT", "LIST")).decode().splitlines():
            client = dict(pair.split("=", 1) for pair in line.split(" "))
            process, _, role = client["name"].removeprefix("t-").partition("-")
            if role == "arq":  # it makes its own connections, and runs no scripts
                counts[process] += int(client["tot-cmds"])
        return counts

    async def has_presence(self, count: int) -> bool:
        """Tell whether exactly so many processes have said that they live."""
        return int(await self.call("ZCARD", self.names.alive)) == count

    async def has_group(self) -> bool:
        """Tell whether the interactive stream has its group."""
        try:
            return bool(await self.consumers() is not None)
        except QueueUnavailable:
            return False

    async def has_marks(self) -> bool:
        """Tell whether any pack of the lane has bits set."""
        return bool(await self.call("KEYS", self.lane.part("*").replace("{", "[{]")))

    async def clients(self, name: str) -> list[int]:
        """The ids of the connections of that role."""
        listed = (await self.call("CLIENT", "LIST")).decode().splitlines()
        found = [dict(pair.split("=", 1) for pair in line.split(" ")) for line in listed]
        return [int(client["id"]) for client in found if client["name"] == f"t-{name}"]

    async def cut(self, name: str) -> None:
        """Close the connections of that role, and wait until they are there again."""
        before = await self.clients(name)
        for client in before:
            await self.call("CLIENT", "KILL", "ID", client)

        async def are_back() -> bool:
            after = await self.clients(name)
            return len(after) == len(before) and not set(after) & set(before)

        await until(are_back, f"{name} has connected again")

    async def has_waiting(self, count: int) -> bool:
        """Tell whether the interactive stream has exactly so many entries."""
        return await self.waiting() == count

    async def is_quiet(self) -> bool:
        """Tell whether nothing waits, nothing is leased and nothing is counted as waiting."""
        lengths = [await self.waiting(lane_class) for lane_class in LaneClass]
        return not any(lengths) and not await self.pending() and await self.depth() == (0, 0, 0)


def observed(site: Site, api: ApiSide, worker: WorkerSide) -> None:
    """Let both sides say that they live, and react when Redis forgot them."""
    observer = Observer(
        site.names,
        lambda role: site.line(f"{api.api_id}-{role}"),
        api_id=api.api_id,
        on_forgotten=api.lanes.repeat_all,
        spawn=site.spawn,
    )
    presence = Presence(
        site.line(f"{worker.worker_id}-presence"),
        site.names,
        WORKER + worker.worker_id,
        on_seen=lambda seen: worker.pool.hurry() if seen.was_forgotten else None,
    )
    site.spawn(observer.run())
    site.spawn(presence.run())
