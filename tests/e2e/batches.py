"""Batches as OpenAI's package has them: inputs written, runs watched, results judged."""

from __future__ import annotations

import json
import os
import signal
from base64 import b64decode
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import openai
from openai.types import Batch

from e2e.models import openai_entry
from e2e.pools import Pool
from e2e.store import store_at
from embedpool_shared.names import Names
from support.fake_provider import FakeProvider
from support.processes import Member, wait_until
from support.vectors import vector_of

MODEL: Final = "small"
UPSTREAM: Final = "text-embedding-3-small"
DIMS: Final = 48
PRICE_USD: Final = 2e-8
CALL_ITEMS: Final = 64
RETRIES: Final = 10
"""So many times a client asks again while the api comes back."""
ENDED: Final = ("completed", "failed", "expired", "cancelled")
Row = dict[str, Any]


def priced(fake: FakeProvider, name: str = MODEL) -> dict[str, Any]:
    """Write the entry of a model with short vectors and a price."""
    about = {
        "output_dimensions": DIMS,
        "input_cost_per_token": PRICE_USD,
        "max_items_per_call": CALL_ITEMS,
    }
    return openai_entry(name, fake, **about)


@contextmanager
def client_of(pool: Pool, key: str, *, retries: int = 0) -> Iterator[openai.OpenAI]:
    """Make OpenAI's client of a pool."""
    http = httpx.Client(trust_env=False, timeout=60)
    with openai.OpenAI(
        base_url=f"{pool.url}/v1", api_key=key, http_client=http, max_retries=retries
    ) as client:
        yield client


def line(custom_id: str, given: object, *, model: str = MODEL, **more: object) -> str:
    """Write one line of an input."""
    body = {"model": model, "input": given, "encoding_format": "base64"}
    asked = {"custom_id": custom_id, "method": "POST", "url": "/v1/embeddings", "body": body}
    return json.dumps(asked | more)


def text_of(number: int) -> str:
    """The text of a numbered line; its tokens depend on the number."""
    return f"chunk {number} of the handbook" + " again" * (number % 7)


def numbered(count: int) -> list[str]:
    """Write lines whose ids and texts follow from their numbers, from 1."""
    return [line(f"id-{number}", text_of(number)) for number in range(1, count + 1)]


def uploaded(client: openai.OpenAI, lines: Iterable[str]) -> str:
    """Upload lines; return the file's id."""
    content = "".join(f"{one}\n" for one in lines).encode("utf-8", "surrogatepass")
    return client.files.create(file=("in.jsonl", content), purpose="batch").id


def made(client: openai.OpenAI, file_id: str) -> str:
    """Make a batch of a file; return its id."""
    batch = client.batches.create(
        input_file_id=file_id, endpoint="/v1/embeddings", completion_window="24h"
    )
    return batch.id


def begun(client: openai.OpenAI, lines: Iterable[str]) -> str:
    """Upload lines and make a batch of them; return its id."""
    return made(client, uploaded(client, lines))


def ended(client: openai.OpenAI, batch_id: str, *, patience_s: float = 60.0) -> Batch:
    """Wait for a batch's end and return it; raises `NotInTime`."""
    return reached(client, batch_id, *ENDED, patience_s=patience_s)


def reached(
    client: openai.OpenAI, batch_id: str, *statuses: str, patience_s: float = 60.0
) -> Batch:
    """Wait until a batch has one of these statuses, and return it; raises `NotInTime`."""
    batch = client.batches.retrieve(batch_id)

    def has() -> bool:
        nonlocal batch
        batch = client.batches.retrieve(batch_id)
        return batch.status in statuses

    wait_until(has, patience_s=patience_s, what=f"{batch_id} {statuses}", glance_s=0.05)
    return batch


def progressed(
    client: openai.OpenAI, batch_id: str, lines: int, *, patience_s: float = 60.0
) -> None:
    """Wait until so many lines of a batch are done with; raises `NotInTime`."""
    wait_until(
        lambda: sum(counts(client.batches.retrieve(batch_id))[1:]) >= lines,
        patience_s=patience_s,
        what=f"{lines} lines of {batch_id}",
        glance_s=0.05,
    )


def counts(batch: Batch) -> tuple[int, int, int]:
    """How many lines there are, are answered, have failed."""
    found = batch.request_counts
    assert found
    return found.total, found.completed, found.failed


def rows(client: openai.OpenAI, file_id: str | None) -> list[Row]:
    """Read a result; none where there is no such file."""
    if file_id is None:
        return []
    return [json.loads(one) for one in client.files.content(file_id).read().splitlines()]


def ids(found: Sequence[Row]) -> list[str]:
    """The custom ids of some rows."""
    return [row["custom_id"] for row in found]


def are_right(found: Sequence[Row]) -> bool:
    """Tell whether every numbered line has its own vector."""
    return all(
        b64decode(row["response"]["body"]["data"][0]["embedding"])
        == vector_of(text_of(int(row["custom_id"].removeprefix("id-"))), DIMS, UPSTREAM)
        for row in found
    )


def tokens_in(found: Sequence[Row]) -> int:
    """The usage of all these rows."""
    return sum(row["response"]["body"]["usage"]["total_tokens"] for row in found)


def leader(pool: Pool) -> Member | None:
    """Find the process that runs the batches, if one does."""
    with store_at(pool.store_url) as store:
        owner = store.client.hget(Names().bulk_lease, "owner")
    if owner is None:
        return None
    found = pool.program.members(owner.decode().rpartition(":")[0])
    return found[0] if found else None


def kill(pool: Pool, victim: Member) -> None:
    """Kill a process of a pool as a crash does, and wait for another in its place."""
    role = "embedpool api" if "embedpool api" in victim.command else "embedpool worker"
    before = len(pool.program.members(role))
    os.kill(victim.pid, signal.SIGKILL)

    def is_replaced() -> bool:
        pids = [member.pid for member in pool.program.members(role)]
        return victim.pid not in pids and len(pids) >= before

    wait_until(is_replaced, patience_s=20, what=f"another {role}")


def kill_leader(pool: Pool, *, patience_s: float = 20.0) -> None:
    """Kill the process that runs the batches, as soon as one does."""
    found: list[Member] = []

    def leads() -> bool:
        found[:] = [one for one in [leader(pool)] if one is not None]
        return bool(found)

    wait_until(leads, patience_s=patience_s, what="a leader", glance_s=0.05)
    kill(pool, found[0])


def part_files(folder: Path) -> list[Path]:
    """The files that running batches have grown by."""
    return [path for path in (folder / "batches").rglob("*") if path.is_file()]
