"""One request on its way through: what has become known of it so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from embedpool_api.callers import Caller
    from embedpool_api.orders import Order
    from embedpool_api.posted import Answer
    from embedpool_shared.embedding.models import Resolved
    from embedpool_shared.jobs import JobReply
    from embedpool_shared.telemetry.spans import Span

PASSAGE: Final = "embedpool.passage"
"""Key of the scope: the request's passage."""


class ClientDisconnected(Exception):
    """Nobody waits for the answer any more."""


@dataclass(slots=True, eq=False)
class Passage:
    """What whoever handles a request leaves here, for whoever looks at it when it is over."""

    request_id: str
    method: str
    route: str  # as the metrics name it
    began_at: float  # as `monotonic` says; the loop's clock only counts milliseconds
    status: int = 0  # 0: nothing was answered
    bytes_in: int = 0
    bytes_out: int = 0
    error: BaseException | None = None
    caller: Caller | None = None
    resolved: Resolved | None = None
    order: Order | None = None
    answer: Answer | None = None
    replies: Sequence[JobReply] = ()  # and their sums:
    tokens: int = 0
    charged_tokens: int = 0  # what came from the cache is free
    cached_items: int = 0
    span: Span | None = None

    def answered(self, replies: Sequence[JobReply]) -> None:
        """Take in the replies to all of its jobs, and what they add up to."""
        self.replies = replies
        for reply in replies:
            self.tokens += reply.tokens
            self.charged_tokens += reply.tokens - reply.cached_tokens
            self.cached_items += reply.cached

    @property
    def cost_pico_usd(self) -> int:
        """What its caller pays for the replies."""
        return self.charged_tokens * self.order.price_per_token_pico_usd if self.order else 0

    def over(self) -> None:
        """Let go of what is in memory only as long as somebody asks."""
        if self.answer is not None:
            self.answer.let_go()

    @property
    def model(self) -> str:
        """The model in the catalogue that was asked for, "" where it is not known."""
        return self.resolved.lane if self.resolved else ""

    @property
    def was_queued(self) -> bool:
        """Whether the queue took it."""
        return bool(self.replies) or (self.answer is not None and self.answer.is_accepted)

    @property
    def slowest(self) -> JobReply | None:
        """The reply to that of its jobs which took longest; None without an answer."""
        replies = self.replies
        if len(replies) < 2:
            return replies[0] if replies else None
        return max(replies, key=_took_ms)

    @property
    def team(self) -> str:
        """The team of its caller by its alias, else its id; "" for none."""
        identity = self.caller.identity if self.caller else None
        team = identity.team if identity else None
        return (team.alias or team.id) if team else ""


def _took_ms(reply: JobReply) -> float:
    return reply.queue_ms + (reply.trace.provider_ms if reply.trace else 0.0)
