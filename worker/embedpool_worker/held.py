"""What a worker holds: leased packs, their jobs, the items that wait. Pure.

A pack is *held* from its delivery until every job of its stream entry has *ended*: answered,
failed, expired or cancelled, and then committed. A *direct* pack never was in Redis: a batch's
lines, whose endings go home to whoever fed them. All instants (`…_at`) are on the loop's clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from embedpool_shared.jobs import (
    Input,
    Job,
    JobReply,
    LaneClass,
    LedgerRecord,
    MergeKey,
    pack_from,
)


@dataclass(slots=True, eq=False)
class HeldPack:
    """A stream entry leased by this worker; or a direct pack, which has a home instead."""

    entry_id: str
    lane_class: LaneClass
    pack_id: str
    api: str
    numbers: tuple[int, ...]  # the jobs of this entry, committed elsewhere or not
    arrived_at: float
    checked_at: float  # up to then its cancellation marks are known
    deliveries: int
    open: dict[int, HeldJob] = field(default_factory=dict)  # not ended yet
    was_split: bool = False  # some of its jobs were committed before the others
    is_lost: bool = False  # the lease is somebody else's now
    is_begun: bool = False  # at least one of its items was sent
    leased_at: float = 0.0  # when this worker got it; 0.0: it was not leased
    home: Home | None = None  # where the endings of a direct pack go


@dataclass(slots=True, eq=False)
class HeldJob:
    """One job of a held pack, and how far its answer is."""

    pack: HeldPack
    job: Job
    merge: MergeKey
    deadline_at: float
    vectors: list[bytes | None]
    missing: int  # items without a vector
    used_tokens: int = 0
    paid_tokens: int = 0
    cached_tokens: int = 0  # the part of `used_tokens` that came from the vector cache
    cached_items: int = 0  # how many of its items did
    is_cancelled: bool = False
    has_ended: bool = False


Home = Callable[[HeldJob, JobReply, LedgerRecord], None]
"""Takes a direct job's ending; it is neither committed nor booked by anybody else."""


@dataclass(slots=True, eq=False)
class Item:
    """One input of one job."""

    job: HeldJob
    position: int  # in its job
    input: Input
    size_bytes: int
    tokens: int  # an estimate for packing unless the api counted


def input_size_bytes(item: Input) -> int:
    """Measure an input as it travels: UTF-8 bytes, or four per token id."""
    if isinstance(item, str):
        return len(item) if item.isascii() else len(item.encode())
    return 4 * len(item)


def estimated_tokens(item: Input, size_bytes: int) -> int:
    """Guess high enough for packing: a token per three bytes, or the ids themselves."""
    return -(-size_bytes // 3) if isinstance(item, str) else len(item)


def held_pack(
    lane_class: LaneClass,
    entry_id: bytes,
    fields: Mapping[bytes, bytes],
    *,
    arrived_at: float,
    earlier_deliveries: int = 0,
    leased_at: float = 0.0,
) -> HeldPack:
    """Read a stream entry; raises `WireVersionUnknown` and msgspec's errors on a foreign blob."""
    pack = pack_from(fields[b"p"])
    kept = _numbers(fields[b"n"])
    jobs = pack.jobs if kept is None else [job for job in pack.jobs if job.number in kept]
    held = HeldPack(
        entry_id=entry_id.decode(),
        lane_class=lane_class,
        pack_id=fields[b"id"].decode(),
        api=pack.api,
        numbers=tuple([job.number for job in jobs]),
        arrived_at=arrived_at,
        checked_at=arrived_at,
        deliveries=int(fields[b"d"]) + earlier_deliveries,
        leased_at=leased_at,
    )
    for job in jobs:
        _open(held, job, pack.merges[job.merge])
    return held


def direct_pack(
    pack_id: str, jobs: Iterable[tuple[Job, MergeKey]], *, fed_at: float, home: Home
) -> HeldPack:
    """Hold jobs of the bulk class that never were in Redis; nobody is asked for their marks."""
    listed = list(jobs)
    held = HeldPack(
        entry_id="",
        lane_class=LaneClass.BULK,
        pack_id=pack_id,
        api="",
        numbers=tuple(job.number for job, _ in listed),
        arrived_at=fed_at,
        checked_at=inf,
        deliveries=0,
        home=home,
    )
    for job, merge in listed:
        _open(held, job, merge)
    return held


def _open(held: HeldPack, job: Job, merge: MergeKey) -> None:
    held.open[job.number] = HeldJob(
        pack=held,
        job=job,
        merge=merge,
        deadline_at=held.arrived_at + job.budget_ms / 1_000,
        vectors=[None] * len(job.inputs),
        missing=len(job.inputs),
    )


def _numbers(listed: bytes) -> frozenset[int] | None:
    return frozenset(map(int, listed.split(b","))) if listed else None


def items_of(job: HeldJob) -> list[Item]:
    """List a job's inputs that have no vector yet as items, in order."""
    return [item_at(job, position) for position, vector in enumerate(job.vectors) if vector is None]


def item_at(job: HeldJob, position: int) -> Item:
    """One of a job's inputs as an item."""
    given = job.job.inputs[position]
    size_bytes = input_size_bytes(given)
    is_counted = len(job.job.inputs) == 1 and job.job.tokens
    tokens = job.job.tokens if is_counted else estimated_tokens(given, size_bytes)
    return Item(job, position, given, size_bytes, tokens)


def without_stale(job: HeldJob, size_bytes: int) -> list[Item]:
    """Take a job's cached vectors back if they are not as long as a fresh one; list their items.

    A server that changed its model under the same name leaves such vectors behind.
    """
    stale = [n for n, v in enumerate(job.vectors) if v is not None and len(v) != size_bytes]
    if not job.cached_items or not stale:
        return []
    for position in stale:
        job.vectors[position] = None
    job.missing += len(stale)
    job.used_tokens -= job.cached_tokens
    job.cached_tokens = job.cached_items = 0
    return [item_at(job, position) for position in stale]


def requests_in(items: Sequence[Item]) -> int:
    """Count the jobs that share a batch; a large request's parts count one each."""
    return len({item.job for item in items})
