"""The spend log, newest first a page at a time, or all of it from the beginning."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from embedpool_api.accounts.shared_line import SharedLine
from embedpool_api.accounts.spend_rows import Row, Rows, complete, position
from embedpool_shared.errors import BadRequest
from embedpool_shared.jobs import LedgerRecord, records_from
from embedpool_shared.names import Names

STEP: Final = 200
MAX_READ_ENTRIES: Final = 2_000
"""Entries one page looks at; where few rows are wanted, its cursor leads on from there."""
MAX_ENTRIES_APART: Final = 500
"""How many entries away from a page the other parts of its requests are looked for."""
_cursor = re.compile(r"(\d{1,16})-(\d{1,19})-(\d{1,6})", re.ASCII).fullmatch

RECORDS_FIELD: Final = b"r"

Entry = tuple[str, list[LedgerRecord]]
Position = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which rows are asked for; None and empty is all."""

    accounts: frozenset[str] = frozenset()
    request_id: str | None = None
    model: str | None = None
    from_ms: int | None = None
    until_ms: int | None = None

    def has(self, row: Row) -> bool:
        """Say whether a row is asked for, its time aside."""
        return (
            self.accounts <= row.accounts()
            and self.request_id in {None, row.request_id}
            and self.model in {None, row.first.model}
        )


@dataclass(frozen=True, slots=True)
class LogPage:
    """Some rows, and where those after them begin; None at the end."""

    rows: list[Row]
    after: str | None


class SpendLog:
    """Reads the spend log."""

    def __init__(self, line: SharedLine, names: Names) -> None:
        """Read over `line`."""
        self._line = line
        self._name = names.spend_log

    async def page(self, wanted: Wanted, *, limit: int, after: str | None) -> LogPage:
        """Read the newest rows wanted, those older than `after`; raises `BadRequest` for it."""
        older_than = None if after is None else _position(after)
        end = str(wanted.until_ms) if wanted.until_ms is not None else "+"
        if older_than is not None:
            end = f"{older_than[0]}-{older_than[1]}"
        chosen: list[Row] = []
        read, last = 0, None
        while entries := await self._read("XREVRANGE", end, str(wanted.from_ms or "-")):
            chosen += _anchored(entries, wanted, older_than)
            read += len(entries)
            end = f"({entries[-1][0]}"
            if len(chosen) > limit:
                last = position(chosen[limit - 1].place)
                break
            if read >= MAX_READ_ENTRIES:
                last = position((entries[-1][0], 0))
                break
        await self._complete(chosen[:limit])
        return LogPage(chosen[:limit], None if last is None else "-".join(map(str, last)))

    async def everything(self, wanted: Wanted) -> AsyncIterator[list[Row]]:
        """Read all rows wanted, the oldest first; those that lack a part come last."""
        rows, start = Rows(), str(wanted.from_ms or "-")
        end = str(wanted.until_ms) if wanted.until_ms is not None else "+"
        while entries := await self._read("XRANGE", start, end):
            for entry_id, records in entries:
                rows.add(entry_id, records)
            yield [row for row in rows.take(only_whole=True) if wanted.has(row)]
            start = f"({entries[-1][0]}"
        yield [row for row in rows.take(only_whole=False) if wanted.has(row)]

    async def _complete(self, rows: Iterable[Row]) -> None:
        """Look on both sides of rows that lack parts for what they lack."""
        lacking = {row.name: row for row in rows if not row.is_whole}
        if not lacking:
            return
        oldest = min((row.place for row in lacking.values()), key=position)[0]
        await self._seek(lacking, "XRANGE", oldest, "+", MAX_READ_ENTRIES + MAX_ENTRIES_APART)
        await self._seek(lacking, "XREVRANGE", f"({oldest}", "-", MAX_ENTRIES_APART)

    async def _seek(
        self, lacking: Mapping[str, Row], command: str, start: str, end: str, most: int
    ) -> None:
        read = 0
        while read < most and not all(row.is_whole for row in lacking.values()):
            entries = await self._read(command, start, end)
            if not entries:
                return
            for entry_id, records in entries:
                complete(lacking, entry_id, records)
            read += len(entries)
            start = f"({entries[-1][0]}"

    async def _read(self, command: str, start: str, end: str) -> list[Entry]:
        (found,) = await self._line.call_all([(command, self._name, start, end, "COUNT", STEP)])
        return [(entry_id.decode(), _records(fields)) for entry_id, fields in found]


def _anchored(entries: Sequence[Entry], wanted: Wanted, older_than: Position | None) -> list[Row]:
    """List the rows wanted whose place is in these entries, the newest first."""
    rows = Rows()
    for entry_id, records in entries:
        rows.add(entry_id, records)
    return [
        row
        for row in reversed(rows.take(only_whole=False))
        if row.has_place
        and wanted.has(row)
        and (older_than is None or position(row.place) < older_than)
    ]


def _records(fields: Sequence[bytes]) -> list[LedgerRecord]:
    return records_from(fields[fields.index(RECORDS_FIELD) + 1])


def _position(after: str) -> Position:
    found = _cursor(after)
    if found is None:
        raise BadRequest("`after` should be the cursor that the page before gave", param="after")
    return int(found[1]), int(found[2]), int(found[3])
