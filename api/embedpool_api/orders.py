"""A request once all of it is understood: what will be queued, for whom, until when. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec
from msgspec import structs

from embedpool_api.attribution import Attribution
from embedpool_api.callers import Caller
from embedpool_api.cutting import Slice
from embedpool_shared.embedding.fitting import Fitted
from embedpool_shared.embedding.lengths import TokenCounter, texts_of
from embedpool_shared.embedding.models import Resolved
from embedpool_shared.embedding.request import EmbeddingRequest
from embedpool_shared.errors import BadRequest
from embedpool_shared.jobs import Bill, CacheUse, Job, LaneClass

GUESSED_BYTES_PER_TOKEN: Final = 3
CLASS_HEADER: Final = b"x-embedpool-class"


class Order(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One embeddings request on its way to the queue."""

    resolved: Resolved
    fitted: Fitted
    caller: Caller
    attribution: Attribution
    lane_class: LaneClass
    cache: CacheUse
    call_id: str  # what the caller knows the request by
    give_up_at: float  # on the loop's clock
    trace: str = ""  # the request's span, as W3C names it

    @property
    def price_per_token_pico_usd(self) -> int:
        """What a token costs."""
        return self.resolved.card.price_per_token_pico_usd

    @property
    def needs_tokens(self) -> bool:
        """Whether a limit of the caller's has to know how long the request is."""
        limited = self.caller.limited
        return bool(limited) and any(limits.need_tokens for _, limits in limited)

    def counted(self, tokens: TokenCounter) -> Order:
        """Count every input by the model's own tokenizer, where we have it."""
        texts = texts_of(self.fitted.inputs)
        encoding = self.resolved.card.encoding
        if self.fitted.counts or texts is None or not tokens.knows(encoding):
            return self
        counts = [tokens.count(encoding, text) for text in texts]
        return structs.replace(self, fitted=self.fitted._replace(counts=counts))

    def tokens_in(self, piece: Slice) -> int:
        """How long a piece of it is: counted, else guessed rather too high than too low."""
        counts = self.fitted.counts
        if counts:
            return sum(counts[piece.start : piece.stop])
        return -(-piece.size_bytes // GUESSED_BYTES_PER_TOKEN)


def lane_class_of(headers: Mapping[bytes, bytes], caller: Caller) -> LaneClass:
    """Choose by `x-embedpool-class`, else as the caller's key says; raises `BadRequest`."""
    asked = headers.get(CLASS_HEADER)
    if asked is None:
        return caller.default_class
    if asked == b"bulk":
        return LaneClass.BULK
    if asked == b"interactive":
        return LaneClass.INTERACTIVE
    name = CLASS_HEADER.decode()
    raise BadRequest(f"`{name}` must be 'interactive' or 'bulk'", param=name)


def cache_use_of(headers: Mapping[bytes, bytes], request: EmbeddingRequest) -> CacheUse:
    """Read `Cache-Control` and LiteLLM's `cache`: no-cache reads nothing, no-store neither."""
    control = headers.get(b"cache-control", b"").lower()
    use = CacheUse.BOTH
    if request.no_cache or b"no-cache" in control or b"no-store" in control:
        use &= ~CacheUse.READ
    if request.no_store or b"no-store" in control:
        use &= ~CacheUse.WRITE
    return use


def jobs_of(
    order: Order, pieces: Sequence[Slice], bill_of: Callable[[int], Bill | None]
) -> list[Job]:
    """Make a job of each piece; numbers, merge indices and budgets are set when it leaves."""
    inputs, counts = order.fitted.inputs, order.fitted.counts
    return [
        Job(
            number=0,
            merge=0,
            inputs=inputs[piece.start : piece.stop],
            budget_ms=0,
            size_bytes=piece.size_bytes,
            tokens=order.tokens_in(piece) if counts else 0,
            account=order.caller.account,
            price_per_token_pico_usd=order.price_per_token_pico_usd,
            bill=bill_of(position),
            cache=order.cache,
            trace=order.trace,
        )
        for position, piece in enumerate(pieces)
    ]
