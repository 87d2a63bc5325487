"""Batches in Redis: made, read, listed, and brought from status to status.

Who moves a batch: the api makes it (validating) and cancels it (cancelling); every other step is
the leading worker's. Each step is one script, so no two of them can come from the same status.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, Protocol

from embedpool_shared.batches import (
    AT_FIELD,
    ENDED,
    FILES_LIVE_S,
    RECORD,
    Batch,
    BatchField,
    BatchRecord,
    Status,
    batch_record,
    encode_record,
)
from embedpool_shared.errors import BadRequest, NotFound, RateLimited
from embedpool_shared.names import Names
from embedpool_shared.scripts import Script, script

LISTS_LIVE_S: Final = FILES_LIVE_S + 2 * 86_400
"""A batch outlives its creation by its window and what is kept of it afterwards."""
PAGE_STEP: Final = 100
EVERYBODY: Final = ""
_GOING_ON: Final = frozenset(Status) - ENDED
_FIELDS: Final = {field.value.encode(): field for field in BatchField}

Value = str | int | bytes
Row = tuple[str, Mapping[bytes, bytes]]
"""A member of a list, and its hash; an empty one where nothing is kept of it any more."""


class RecordsLine(Protocol):
    """A `Line`, or what lets several tasks share one."""

    async def call_all(self, commands: Sequence[tuple[Any, ...]], /) -> list[Any]:
        """Send several commands in one write."""
        ...

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Any], /) -> Any:
        """Run a script."""
        ...


class BatchRecords:
    """All batches; raises `QueueUnavailable` where Redis is away."""

    def __init__(self, line: RecordsLine, names: Names) -> None:
        """Keep them over `line`."""
        self._line = line
        self._names = names

    async def create(self, record: BatchRecord, *, max_active: int | None = None) -> None:
        """Make a batch; one of that id which is there already stays as it is.

        Raises `NotFound` where its input file is gone, and `RateLimited` where its owner has
        `max_active` batches that have not ended.
        """
        names = self._names
        keys = [
            names.batch(record.id),
            names.batches(record.owner),
            names.batches(EVERYBODY),
            names.active_batches,
            names.file(record.input_file_id),
        ]
        told = [record.id, encode_record(record), Status.VALIDATING.value, record.created_at]
        arguments = [*told, LISTS_LIVE_S, names.batch(""), "" if max_active is None else max_active]
        made = await self._line.run(script("add_batch"), keys, arguments)
        if made == -1:
            raise RateLimited(
                f"{max_active} of your batches have not ended, and more are not taken; wait for "
                "one to end, or cancel one",
                code="batch_limit_exceeded",
            )
        if not made:
            raise NotFound(f"There is no file {record.input_file_id!r}", param="input_file_id")

    async def read(self, batch_id: str) -> Batch | None:
        """Read a batch; None for one that does not exist or is not kept any more."""
        (flat,) = await self._line.call_all([("HGETALL", self._names.batch(batch_id))])
        return _batch(dict(zip(flat[::2], flat[1::2], strict=True)))

    async def list(
        self, owner: str | None, *, after: str | None = None, limit: int
    ) -> Sequence[Batch]:
        """List an owner's batches, or everybody's for None, the newest first.

        Only those behind `after`; raises `BadRequest` where that was never among them.
        """
        found: list[Batch] = []
        steps = Pages(self._line, self._names.batches(owner or EVERYBODY), self._names.batch(""))
        while len(found) < limit and (rows := await steps.next(after)):
            after = rows[-1][0]
            found += (batch for _, fields in rows if (batch := _batch(fields)) is not None)
        return found[:limit]

    async def active(self) -> Sequence[str]:
        """List the batches that have not ended: those that were cancelled, then the oldest."""
        (ids,) = await self._line.call_all([("ZRANGE", self._names.active_batches, 0, -1)])
        return [batch_id.decode() for batch_id in ids]

    async def cancelled(self, *, limit: int) -> Sequence[str]:
        """List some of the batches that were cancelled and have not ended."""
        which = ("-inf", 0, "BYSCORE", "LIMIT", 0, limit)
        (ids,) = await self._line.call_all([("ZRANGE", self._names.active_batches, *which)])
        return [batch_id.decode() for batch_id in ids]

    async def step(
        self,
        batch_id: str,
        to: Status,
        *,
        from_: Collection[Status],
        fields: Mapping[BatchField, Value] | None = None,
    ) -> Status | None:
        """Bring a batch from one of these statuses to another, with the time of it and `fields`.

        Returns the status it is in afterwards, whoever brought it there; None without such a batch.
        """
        lives_s = FILES_LIVE_S if to in ENDED else ""
        told = [to.value, AT_FIELD[to].value if to in AT_FIELD else "", lives_s]
        return await self._changed(batch_id, told, from_, fields or {})

    async def note(self, batch_id: str, fields: Mapping[BatchField, Value]) -> Status | None:
        """Note how far a batch is, unless it has ended; returns its status, None without one."""
        return await self._changed(batch_id, ["", "", ""], _GOING_ON, fields)

    async def _changed(
        self,
        batch_id: str,
        told: Sequence[Value],
        from_: Collection[Status],
        fields: Mapping[BatchField, Value],
    ) -> Status | None:
        keys = [self._names.batch(batch_id), self._names.active_batches]
        flat = [part for field, value in fields.items() for part in (field.value, value)]
        arguments = [batch_id, *told, len(from_), *(one.value for one in from_), *flat]
        status = await self._line.run(script("step_batch"), keys, arguments)
        return None if status is None else Status(status.decode())


class Pages:
    """Walks through a list of files or batches, some at a time."""

    def __init__(
        self, line: RecordsLine, index: str, prefix: str, *, is_oldest_first: bool = False
    ) -> None:
        """Walk through `index`, whose members' hashes have names that begin with `prefix`."""
        self._line = line
        self._index = index
        self._arguments = (PAGE_STEP, "" if is_oldest_first else "REV")
        self._prefix = prefix

    async def next(self, after: str | None) -> list[Row]:
        """Read some behind `after`; none at the end."""
        arguments = [self._prefix, after or "", *self._arguments]
        rows = await self._line.run(script("page"), [self._index], arguments)
        if rows is None:
            raise BadRequest("`after` is not the id of one of these", param="after")
        return [
            (member.decode(), dict(zip(flat[::2], flat[1::2], strict=True)))
            for member, flat in rows
        ]


def _batch(fields: Mapping[bytes, bytes]) -> Batch | None:
    raw = fields.get(RECORD.encode())
    if raw is None:
        return None
    known = {_FIELDS[name]: value for name, value in fields.items() if name in _FIELDS}
    return Batch(batch_record(raw), known)
