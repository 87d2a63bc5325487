"""Requests as the api posts them, built from nothing but inputs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from embedpool_api.posted import Answer, PostedJob
from embedpool_shared.jobs import Input, Job, JobReply, MergeKey

if TYPE_CHECKING:
    from collections.abc import Sequence

MERGE: Final = MergeKey("m")


def marked(credential: bytes, place: str) -> bytes:
    """Stand in for encryption: say what was sealed, and for where."""
    return credential + b" for " + place.encode()


def job_of(*inputs: Input, tokens: int = 0, size_bytes: int | None = None) -> Job:
    """Build a job as the endpoint does: its number, merge and budget are the outbox's to set."""
    size = sum(map(len, inputs)) if size_bytes is None else size_bytes
    return Job(0, 0, list(inputs), 0, size, tokens, "acme")


def answer_to(
    *jobs: Job | Sequence[Input], merge: MergeKey = MERGE, budget_s: float = 60.0
) -> Answer:
    """Build the answer that a request of these jobs waits for."""
    loop = asyncio.get_running_loop()
    answer = Answer(len(jobs), loop, give_up_at=loop.time() + budget_s)
    for position, given in enumerate(jobs):
        job = given if isinstance(given, Job) else job_of(*given)
        answer.jobs.append(PostedJob(answer, position, job, merge))
    return answer


def reply_to(number: int, vectors: bytes = b"vvvv") -> JobReply:
    """Build a reply with one vector of one float."""
    return JobReply(number, vectors, 1, 1)
