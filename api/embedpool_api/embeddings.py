"""The hot endpoint: a body in, its jobs' answer awaited, a body out.

Plain ASGI: through FastAPI's own stack this costs two to three times as much. Our errors are
raised; the edge around it answers them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.types import Receive, Scope, Send

from embedpool_api.attribution import attribution
from embedpool_api.callers import Caller
from embedpool_api.charges import Charge, Charges
from embedpool_api.cutting import cut
from embedpool_api.deadline import budget_s
from embedpool_api.errands import GO_ON
from embedpool_api.lanes import Lanes
from embedpool_api.middleware import BODY, HEADERS, REQUEST_ID, WHOLE, read_body
from embedpool_api.observer import Observer
from embedpool_api.orders import Order, cache_use_of, jobs_of, lane_class_of
from embedpool_api.outbox import no_worker, queue_unavailable
from embedpool_api.passage import PASSAGE, Passage
from embedpool_api.paths import MODEL
from embedpool_api.posted import Answer
from embedpool_api.response import (
    Header,
    answer_headers,
    debug_headers,
    key_spend_header,
)
from embedpool_api.watch import Patrol
from embedpool_shared.embedding.answer import (
    embedding_body,
    embedding_chunks,
    is_small,
)
from embedpool_shared.embedding.fitting import Fitted, fit, work_bytes
from embedpool_shared.embedding.inputs import total_bytes
from embedpool_shared.embedding.lengths import TokenCounter
from embedpool_shared.embedding.models import Resolved, refuse_impossible, refuse_stranger, resolve
from embedpool_shared.embedding.request import MAX_BODY_BYTES, EmbeddingRequest, parse
from embedpool_shared.errors import ModelNotAllowed, ModelNotFound

MAX_BYTES_ON_LOOP: Final = 65_536
"""More than this is tokenised or decoded in a thread; it would hold up everybody else."""
MAX_HARMLESS_BYTES: Final = MAX_BYTES_ON_LOOP // 2
"""A body no larger never holds that much: a token id counts as four bytes and is sent in two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSettings:
    """What the endpoint needs to know of the configuration."""

    request_timeout_s: float
    default_model: str | None
    drop_params: bool
    forwards_user: bool
    refuses: Callable[[str], bool]
    """Tells, while no catalogue was ever seen, which names the configuration rules out."""


class Embeddings:
    """Answers `POST /v1/embeddings` and its other names."""

    def __init__(
        self,
        settings: EndpointSettings,
        *,
        identify: Callable[[Mapping[bytes, bytes], str], Awaitable[Caller]],
        observer: Observer,
        lanes: Lanes,
        charges: Charges,
        tokens: TokenCounter,
    ) -> None:
        """Receive the running pieces."""
        self._settings = settings
        self._identify = identify
        self._observer = observer
        self._lanes = lanes
        self._charges = charges
        self._tokens = tokens
        self._patrol = Patrol()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; raises our errors before anything was sent."""
        now = asyncio.get_running_loop().time
        began_at = now()
        headers: Mapping[bytes, bytes] = scope[HEADERS]
        passage: Passage = scope[PASSAGE]
        client = scope["client"]
        caller = passage.caller = await self._identify(headers, client[0] if client else "")
        body: bytes | None = scope.get(BODY)
        if body is None:
            body = await read_body(receive, headers, max_bytes=MAX_BODY_BYTES)
        passage.bytes_in = len(body)
        request = parse(
            body,
            content_type=headers.get(b"content-type", b"").decode("latin-1"),
            path_model=scope[MODEL],
            default_model=self._settings.default_model,
        )
        order = await self._ordered(request, caller, scope, began_at=began_at)
        charge = await self._served(order, receive, scope)
        chunks = await _written(
            passage,
            items=len(order.fitted.inputs),
            is_base64=request.is_base64,
            asked_model=request.model,
        )
        own = _headers(
            order,
            passage,
            model=request.model,
            length=sum(map(len, chunks)),
            processing_ms=(now() - began_at) * 1_000,
        )
        own += charge.headers()
        if headers.get(b"x-embedpool-debug") == b"1":
            own += debug_headers(passage.replies, items=len(order.fitted.inputs))
        if len(chunks) == 1:
            await send({"type": WHOLE, "status": 200, "headers": own, "body": chunks[0]})
        else:
            await _send_pieces(send, own, chunks)

    async def _ordered(
        self, request: EmbeddingRequest, caller: Caller, scope: Scope, *, began_at: float
    ) -> Order:
        """Understand a request: which model, for whom, until when; the passage learns of it."""
        headers: Mapping[bytes, bytes] = scope[HEADERS]
        passage: Passage = scope[PASSAGE]
        resolved = passage.resolved = self._resolve(request.model, caller)
        patience_s = budget_s(headers, self._settings.request_timeout_s, asked_s=request.timeout_s)
        may_take_long = passage.bytes_in > MAX_HARMLESS_BYTES
        if may_take_long and work_bytes(request, resolved, tokens=self._tokens) > MAX_BYTES_ON_LOOP:
            fitted = await asyncio.to_thread(self._fit, request, resolved, caller)
        else:
            fitted = self._fit(request, resolved, caller)
        order = passage.order = Order(
            resolved=resolved,
            fitted=fitted,
            caller=caller,
            attribution=attribution(headers, request, caller),
            lane_class=lane_class_of(headers, caller),
            cache=cache_use_of(headers, request),
            call_id=scope[REQUEST_ID],
            give_up_at=began_at + patience_s,
            trace=passage.span.traceparent if passage.span else "",
        )
        return order

    def _resolve(self, model: str, caller: Caller) -> Resolved:
        catalog = self._observer.catalog
        if catalog is None:
            refuse_impossible(model)
            if self._settings.refuses(model):
                raise ModelNotFound(
                    f"The model `{model}` does not exist or you do not have access to it.",
                    param="model",
                    code="model_not_found",
                )
            raise no_worker("No worker has said yet which models it serves")
        resolved = resolve(catalog, model)
        if caller.models and not any(map(caller.may_use, (resolved.lane, resolved.model, model))):
            raise ModelNotAllowed(f"This key may not use the model `{model}`", param="model")
        if caller.credential is not None:
            refuse_stranger(resolved)
        if not self._observer.has_workers():
            raise no_worker("No worker is alive")
        if self._lanes.is_away(resolved.lane):
            raise queue_unavailable("The queue is not reachable")
        return resolved

    def _fit(self, request: EmbeddingRequest, resolved: Resolved, caller: Caller) -> Fitted:
        return fit(
            request,
            resolved,
            tokens=self._tokens,
            drop_params=self._settings.drop_params,
            scope=caller.scope,
            forwards_user=self._settings.forwards_user,
        )

    async def _served(self, order: Order, receive: Receive, scope: Scope) -> Charge:
        """Let the order in, post it, and await its replies; they are the passage's then."""
        passage: Passage = scope[PASSAGE]
        if order.needs_tokens:
            order = await self._counted(order)
        pieces = cut(order.fitted.inputs)
        loop = asyncio.get_running_loop()
        answer = passage.answer = Answer(
            len(pieces), loop, give_up_at=order.give_up_at, on_replies=scope.get(GO_ON)
        )

        def post(charge: Charge) -> None:
            self._lanes.post(
                answer,
                order.resolved.lane,
                order.lane_class,
                order.fitted.merge,
                jobs_of(order, pieces, charge.bill_of),
                credential=order.caller.credential,
            )

        charge = self._charges.open(
            order,
            pieces,
            patience_s=order.give_up_at - loop.time(),
            answer=answer.done,
            post=post,
        )
        watch = self._patrol.watch(answer, receive)
        try:
            passage.answered(await answer.done)
        except BaseException:
            self._take_back(order, answer, charge)
            raise
        finally:
            watch.stop()
        self._charges.closed(charge)
        return charge

    def _take_back(self, order: Order, answer: Answer, charge: Charge) -> None:
        """Nobody waits any more: what is unsent stays unsent, what never was costs nothing."""
        answer.done.cancel()
        self._lanes.abandon(order.resolved.lane, answer)
        self._charges.closed(charge, never_queued=answer.is_partly_lost)

    async def _counted(self, order: Order) -> Order:
        if total_bytes(order.fitted.inputs) > MAX_BYTES_ON_LOOP:
            return await asyncio.to_thread(order.counted, self._tokens)
        return order.counted(self._tokens)


async def _written(
    passage: Passage, *, items: int, is_base64: bool, asked_model: str
) -> list[bytes]:
    """Write the body, letting others pass between the pieces of a large one."""
    replies = passage.replies
    parts = [(reply.vectors, reply.dims) for reply in replies]
    trace = replies[0].trace
    model = (trace.model if trace else "") or asked_model
    prompt_tokens = passage.tokens
    if items == 1 or is_small(parts, is_base64=is_base64):
        return [
            embedding_body(parts, is_base64=is_base64, model=model, prompt_tokens=prompt_tokens)
        ]
    chunks = []
    for chunk in embedding_chunks(
        parts, is_base64=is_base64, model=model, prompt_tokens=prompt_tokens
    ):
        chunks.append(chunk)
        await asyncio.sleep(0)
    return chunks


def _headers(
    order: Order, passage: Passage, *, model: str, length: int, processing_ms: float
) -> list[Header]:
    own = answer_headers(
        length=length,
        processing_ms=processing_ms,
        call_id=order.call_id,
        model=model,
        cost_pico_usd=passage.cost_pico_usd,
    )
    if order.caller.identity is not None:
        own.append(key_spend_header(order.caller.identity))
    return own


async def _send_pieces(send: Send, headers: list[Header], chunks: Sequence[bytes]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for chunk in chunks[:-1]:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": chunks[-1]})
