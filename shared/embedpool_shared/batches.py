"""Files and batches: what the api writes of them and the worker that runs them goes on with. Pure.

A file is a Redis hash with its record; its content is in the file store, under `FileRecord.path`.
A batch is a Redis hash too: what was asked for stands in `RECORD` and never changes, everything
else is a field of its own (`BatchField`), written by whoever brings the batch there. All times are
Unix seconds on Redis' clock.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from embedpool_shared.accounts import AccountKind, account_name

if TYPE_CHECKING:
    from collections.abc import Mapping

RECORD: Final = "record"
"""Field of a file's and of a batch's hash: its record as JSON."""
ENDPOINT: Final = "/v1/embeddings"
COMPLETION_WINDOW: Final = "24h"
COMPLETION_WINDOW_S: Final = 24 * 60 * 60
FILES_LIVE_S: Final = 30 * 24 * 60 * 60
"""Files, results and batches are kept for so long."""
BATCH_FUNCTION: Final = "attend_batch"
"""The arq job that sees to a batch; its arguments are the batch's id."""


class Purpose(StrEnum):
    """What a file is for."""

    BATCH = "batch"  # uploaded
    BATCH_OUTPUT = "batch_output"  # written by a batch: its results, or its errors


class Status(StrEnum):
    """How far a batch is, in OpenAI's words."""

    VALIDATING = "validating"
    FAILED = "failed"  # nothing was sent: its input is not as it should be
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


ENDED: Final = frozenset({Status.FAILED, Status.COMPLETED, Status.EXPIRED, Status.CANCELLED})
"""What a batch never leaves again."""


class BatchField(StrEnum):
    """Fields of a batch's hash beside its record; absent ones are null or zero."""

    STATUS = "status"
    MODEL = "model"  # as the lines name it
    LANE = "lane"
    IN_PROGRESS_AT = "in_progress_at"
    FINALIZING_AT = "finalizing_at"
    COMPLETED_AT = "completed_at"
    FAILED_AT = "failed_at"
    EXPIRED_AT = "expired_at"
    CANCELLING_AT = "cancelling_at"
    CANCELLED_AT = "cancelled_at"
    OUTPUT_FILE_ID = "output_file_id"
    ERROR_FILE_ID = "error_file_id"
    ERRORS = "errors"  # JSON: a list of `LineProblem`
    TOTAL = "total"  # lines
    COMPLETED = "completed"
    FAILED = "failed"
    TOKENS = "tokens"  # the usage of all lines answered so far
    COST_PICO_USD = "cost_pico_usd"


AT_FIELD: Final = {
    Status.IN_PROGRESS: BatchField.IN_PROGRESS_AT,
    Status.FINALIZING: BatchField.FINALIZING_AT,
    Status.COMPLETED: BatchField.COMPLETED_AT,
    Status.FAILED: BatchField.FAILED_AT,
    Status.EXPIRED: BatchField.EXPIRED_AT,
    Status.CANCELLING: BatchField.CANCELLING_AT,
    Status.CANCELLED: BatchField.CANCELLED_AT,
}
"""Where it stands when a batch reached a status."""


class FileRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One file; it belongs to its owner, and to everybody else it does not exist."""

    id: str  # "file-" and 24 random letters
    owner: str  # account name: the key's team, else the key; "caller:master", "caller:open"
    path: str  # in the file store
    size_bytes: int
    created_at: float
    expires_at: float
    filename: str
    purpose: Purpose


class BatchRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for, by whom, and who pays."""

    id: str  # "batch_" and 24 random letters
    owner: str
    input_file_id: str
    input_path: str  # in the file store
    created_at: float
    expires_at: float
    endpoint: str = ENDPOINT
    completion_window: str = COMPLETION_WINDOW
    metadata: dict[str, str] = {}
    account: str = ""  # who pays, as of a job: "key:…", "caller:master", "caller:open"
    payers: tuple[str, ...] = ()  # further accounts on the bill: "team:…", "user:…", "tag:…"
    key_id: str | None = None  # the virtual key, whose standing is checked again and again
    scope: str = ""  # with whom its texts may share a call, as in a merge key
    forwards_user: bool = False
    drops_params: bool = False


class Batch(NamedTuple):
    """A batch as Redis has it."""

    record: BatchRecord
    fields: Mapping[BatchField, bytes]

    @property
    def status(self) -> Status:
        """How far it is."""
        return Status(self.fields[BatchField.STATUS].decode())

    def number(self, field: BatchField) -> int:
        """Read a count; 0 where there is none yet."""
        return int(self.fields.get(field, b"0"))

    def text(self, field: BatchField) -> str | None:
        """Read a name; None where there is none yet."""
        value = self.fields.get(field)
        return None if value is None else value.decode()

    def time(self, field: BatchField) -> int | None:
        """Read when something happened, in Unix seconds; None where it did not."""
        value = self.fields.get(field)
        return None if value is None else int(float(value))


class LineProblem(msgspec.Struct, frozen=True, kw_only=True):
    """Why a batch failed validation, in OpenAI's shape."""

    code: str
    message: str
    line: int | None = None  # from 1
    param: str | None = None


def owner_of(account: str, team_id: str | None) -> str:
    """Say whose the files and batches of a caller are: its team's, else its account's."""
    return account if team_id is None else account_name(AccountKind.TEAM, team_id)


def encode_record(record: FileRecord | BatchRecord | list[LineProblem]) -> bytes:
    """Write a record as JSON."""
    return msgspec.json.encode(record)


def file_record(raw: bytes) -> FileRecord:
    """Read a file's record."""
    return msgspec.json.decode(raw, type=FileRecord)


def batch_record(raw: bytes) -> BatchRecord:
    """Read a batch's record."""
    return msgspec.json.decode(raw, type=BatchRecord)


def line_problems(raw: bytes) -> list[LineProblem]:
    """Read why a batch failed."""
    return msgspec.json.decode(raw, type=list[LineProblem])
