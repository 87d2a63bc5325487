"""One line of a batch on its way: what it asks for, what its tries cost, how it ended. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from embedpool_shared.errors import EmbedPoolError
from embedpool_shared.jobs import JobReply, LedgerRecord
from embedpool_worker.bulk.line_reader import LineJob, LineRefused
from embedpool_worker.bulk.results import (
    CANCELLED,
    EXPIRED,
    Place,
    answered_line,
    refused_line,
    unanswered_line,
)
from embedpool_worker.bulk.window import Entered


@dataclass(slots=True, eq=False)
class BatchLine:
    """A line of the input; it has ended once it has a reply, an error or a reason for neither."""

    source: LineJob | LineRefused
    reply: JobReply | None = None
    error: EmbedPoolError | None = None
    cut: str = ""  # why it was not sent: `EXPIRED`, `CANCELLED`
    records: list[LedgerRecord] = field(default_factory=list)  # of all its tries

    @property
    def is_answered(self) -> bool:
        """Whether it has its vectors."""
        return self.reply is not None

    @property
    def outcome(self) -> str:
        """What it counts as among the rows that are done with."""
        return "answered" if self.is_answered else _ROW.get(self.cut, "failed")


_ROW = {EXPIRED: "expired", CANCELLED: "cancelled"}

Entry = Entered[BatchLine]


def entry_of(source: LineJob | LineRefused, *, begins_at: int) -> Entry:
    """Let a line enter; one that is refused already has ended."""
    line = BatchLine(source)
    inputs = 0
    if isinstance(source, LineJob):
        inputs = len(source.fitted.inputs)
    else:
        line.error = source.error
    return Entered(
        source.number,
        source.end_offset,
        inputs,
        source.end_offset - begins_at,
        line,
        has_ended=line.error is not None,
    )


def written(batch_id: str, line: BatchLine) -> bytes:
    """Write a line of the output or the error file."""
    source = line.source
    place = Place(batch_id, source.number, source.custom_id)
    if line.reply is not None and isinstance(source, LineJob):
        reply = line.reply
        return answered_line(
            place,
            [(reply.vectors, reply.dims)],
            is_base64=source.is_base64,
            model=(reply.trace.model if reply.trace else "") or source.asked_model,
            prompt_tokens=reply.tokens,
        )
    if line.error is not None:
        return refused_line(place, line.error)
    return unanswered_line(place, line.cut)
