"""Packs as a worker holds them, built from nothing but inputs."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Final

from embedpool_shared.jobs import Input, Job, LaneClass, MergeKey, Pack, encode
from embedpool_worker.held import HeldPack, held_pack, input_size_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

MERGE: Final = MergeKey("m")
_entries = count(1)


def job_of(
    inputs: Sequence[Input],
    *,
    number: int = 0,
    merge: int = 0,
    budget_s: float = 60.0,
    tokens: int = 0,
) -> Job:
    """Build a job of these inputs."""
    return Job(
        number=number,
        merge=merge,
        inputs=list(inputs),
        budget_ms=round(budget_s * 1_000),
        size_bytes=sum(map(input_size_bytes, inputs)),
        tokens=tokens,
        account="acme",
    )


def pack_of(
    *jobs: Sequence[Input],
    at: float = 0.0,
    lane_class: LaneClass = LaneClass.INTERACTIVE,
    merge: MergeKey = MERGE,
    budget_s: float = 60.0,
    pack_id: str = "",
) -> HeldPack:
    """Build the pack that a worker holds when these jobs were delivered to it at `at`."""
    entry = next(_entries)
    listed = [job_of(job, number=n, budget_s=budget_s) for n, job in enumerate(jobs)]
    fields = {
        b"id": (pack_id or f"pack-{entry}").encode(),
        b"p": encode(Pack("api-1", [merge], listed)),
        b"n": b"",
        b"d": b"0",
    }
    return held_pack(lane_class, b"%d-0" % entry, fields, arrived_at=at)
