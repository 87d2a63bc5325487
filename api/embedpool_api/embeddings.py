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

from embedpool_api.callers import Caller
from embedpool_api.cutting import cut
from embedpool_api.deadline import budget_s
from embedpool_api.fitting import Fitted, fit, work_bytes
from embedpool_api.lanes import Lanes
from embedpool_api.lengths import TokenCounter
from embedpool_api.middleware import HEADERS, REQUEST_ID, read_body
from embedpool_api.models import Resolved, resolve
from embedpool_api.observer import Observer
from embedpool_api.outbox import queue_unavailable
from embedpool_api.paths import MODEL
from embedpool_api.request import MAX_BODY_BYTES, EmbeddingRequest, parse
from embedpool_api.response import (
    answer_headers,
    debug_headers,
    embedding_body,
    embedding_chunks,
    is_small,
)
from embedpool_api.watch import Watch
from embedpool_shared.errors import ModelNotAllowed, ModelNotFound
from embedpool_shared.jobs import Job, JobReply, LaneClass

MAX_BYTES_ON_LOOP: Final = 65_536
"""More than this is tokenised or decoded in a thread; it would hold up everybody else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSettings:
    """What the endpoint needs to know of the configuration."""

    request_timeout_s: float
    default_model: str | None
    drop_params: bool
    refuses: Callable[[str], bool]
    """Tells, while no catalogue was ever seen, which names the configuration rules out."""


class Embeddings:
    """Answers `POST /v1/embeddings` and its other names."""

    def __init__(
        self,
        settings: EndpointSettings,
        *,
        identify: Callable[[Mapping[bytes, bytes]], Awaitable[Caller]],
        observer: Observer,
        lanes: Lanes,
        tokens: TokenCounter,
    ) -> None:
        """Receive the running pieces."""
        self._settings = settings
        self._identify = identify
        self._observer = observer
        self._lanes = lanes
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; raises our errors before anything was sent."""
        now = asyncio.get_running_loop().time
        began_at = now()
        headers: Mapping[bytes, bytes] = scope[HEADERS]
        caller = await self._identify(headers)
        body = await read_body(receive, headers, max_bytes=MAX_BODY_BYTES)
        request = parse(
            body,
            content_type=headers.get(b"content-type", b"").decode("latin-1"),
            path_model=scope[MODEL],
            default_model=self._settings.default_model,
        )
        resolved = self._resolve(request.model, caller)
        fitted = await self._fit(request, resolved, caller)
        timeout_s = budget_s(headers, self._settings.request_timeout_s, asked_s=request.timeout_s)
        replies = await self._answered(
            resolved,
            fitted,
            caller,
            receive,
            lane_class=_lane_class(headers),
            give_up_at=began_at + timeout_s,
        )
        parts = [(reply.vectors, reply.dims) for reply in replies]
        used_tokens = sum(reply.tokens for reply in replies)
        trace = replies[0].trace
        chunks = await _written(
            parts,
            is_base64=request.is_base64,
            model=(trace.model if trace else "") or request.model,
            prompt_tokens=used_tokens,
        )
        own = answer_headers(
            length=sum(map(len, chunks)),
            processing_ms=(now() - began_at) * 1_000,
            call_id=scope[REQUEST_ID],
            model=request.model,
            cost_pico_usd=used_tokens * resolved.card.price_per_token_pico_usd,
        )
        if headers.get(b"x-embedpool-debug") == b"1":
            own += debug_headers(replies)
        await send({"type": "http.response.start", "status": 200, "headers": own})
        for chunk in chunks[:-1]:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": chunks[-1]})

    def _resolve(self, model: str, caller: Caller) -> Resolved:
        catalog = self._observer.catalog
        if catalog is None:
            if self._settings.refuses(model):
                raise ModelNotFound(
                    f"The model `{model}` does not exist or you do not have access to it.",
                    param="model",
                    code="model_not_found",
                )
            raise queue_unavailable("No worker has said yet which models it serves")
        resolved = resolve(catalog, model)
        if not (caller.may_use(resolved.lane) or caller.may_use(resolved.model)):
            raise ModelNotAllowed(f"This key may not use the model `{model}`", param="model")
        if not self._observer.has_workers():
            raise queue_unavailable("No worker is alive")
        if self._lanes.is_away(resolved.lane):
            raise queue_unavailable("The queue is not reachable")
        return resolved

    async def _fit(self, request: EmbeddingRequest, resolved: Resolved, caller: Caller) -> Fitted:
        def fitted() -> Fitted:
            return fit(
                request,
                resolved,
                tokens=self._tokens,
                drop_params=self._settings.drop_params,
                scope=caller.scope,
            )

        if work_bytes(request, resolved, tokens=self._tokens) > MAX_BYTES_ON_LOOP:
            return await asyncio.to_thread(fitted)
        return fitted()

    async def _answered(
        self,
        resolved: Resolved,
        fitted: Fitted,
        caller: Caller,
        receive: Receive,
        *,
        lane_class: LaneClass,
        give_up_at: float,
    ) -> Sequence[JobReply]:
        """Post the jobs and await their replies; whatever ends the wait early takes them back."""
        jobs = _jobs(fitted, account=caller.account)
        answer = self._lanes.post(
            resolved.lane, lane_class, fitted.merge, jobs, give_up_at=give_up_at
        )
        watch = Watch(answer, receive, give_up_at=give_up_at)
        try:
            return await answer.done
        except BaseException:
            answer.done.cancel()
            self._lanes.abandon(resolved.lane, answer)
            raise
        finally:
            watch.stop()


def _jobs(fitted: Fitted, *, account: str) -> list[Job]:
    inputs, counts = fitted.inputs, fitted.counts
    return [
        Job(
            number=0,
            merge=0,
            inputs=inputs[piece.start : piece.stop],
            budget_ms=0,
            size_bytes=piece.size_bytes,
            tokens=sum(counts[piece.start : piece.stop]) if counts else 0,
            account=account,
        )
        for piece in cut(inputs)
    ]


def _lane_class(headers: Mapping[bytes, bytes]) -> LaneClass:
    is_bulk = headers.get(b"x-embedpool-class") == b"bulk"
    return LaneClass.BULK if is_bulk else LaneClass.INTERACTIVE


async def _written(
    parts: Sequence[tuple[bytes, int]], *, is_base64: bool, model: str, prompt_tokens: int
) -> list[bytes]:
    """Write the body, letting others pass between the pieces of a large one."""
    if is_small(parts, is_base64=is_base64):
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
