"""Makes jobs of a batch's lines: what each asks for, as its model takes it.

Invariants
- What is wrong with a body is its own line's affair, and said as the embeddings route would say it.
- What is read ahead is bounded in lines and in bytes, whatever the file is like.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from embedpool_shared.batches import BatchRecord, LineProblem
from embedpool_shared.catalog import Catalog
from embedpool_shared.embedding.fitting import Fitted, fit
from embedpool_shared.embedding.inputs import total_bytes
from embedpool_shared.embedding.lengths import TokenCounter
from embedpool_shared.embedding.models import resolve
from embedpool_shared.embedding.request import EmbeddingRequest, requested
from embedpool_shared.errors import BadRequest, EmbedPoolError
from embedpool_shared.file_store import FileStore
from embedpool_shared.jobs import CacheUse
from embedpool_worker.bulk.lines import Asked, RawLine, asked, cut

BLOCK_LINES: Final = 256
BLOCK_BYTES: Final = 4 * 1024 * 1024
"""A block ends with the line that fills one of these."""


class LineJob(NamedTuple):
    """One line of a batch, ready to be sent."""

    number: int  # from 1
    custom_id: str
    fitted: Fitted
    is_base64: bool
    asked_model: str  # as the line names it
    size_bytes: int  # of its inputs
    end_offset: int  # where the line after it begins
    lane: str
    price_per_token_pico_usd: int
    cache: CacheUse = CacheUse.BOTH


class LineRefused(NamedTuple):
    """One line of a batch that is answered already: by an error."""

    number: int
    custom_id: str
    error: EmbedPoolError
    end_offset: int


Block = Sequence[LineJob | LineRefused]


class LineReader:
    """Reads the lines of one batch."""

    def __init__(
        self,
        record: BatchRecord,
        catalog: Catalog,
        tokens: TokenCounter,
        *,
        max_line_bytes: int,
        default_model: str | None = None,
    ) -> None:
        """`default_model` is that of a body that names none."""
        self._record = record
        self._catalog = catalog
        self._tokens = tokens
        self._max_line_bytes = max_line_bytes
        self._default_model = default_model

    def job(self, line: RawLine) -> LineJob | LineRefused:
        """Read one line; of a validated batch only its body can be wrong."""
        found = asked(line, max_line_bytes=self._max_line_bytes)
        if isinstance(found, LineProblem):
            error = BadRequest(found.message, param=found.param, code=found.code)
            return LineRefused(line.number, "", error, line.end_offset)
        try:
            return self._job(found, line.end_offset)
        except EmbedPoolError as error:
            return LineRefused(line.number, found.custom_id, error, line.end_offset)

    def blocks(
        self, chunks: Iterable[bytes], *, offset: int = 0, number: int = 0
    ) -> Iterator[Block]:
        """Read what follows `offset`, where the line after the `number`th begins."""
        block: list[LineJob | LineRefused] = []
        began_at = offset
        lines = cut(chunks, max_line_bytes=self._max_line_bytes, offset=offset, number=number)
        for line in lines:
            block.append(self.job(line))
            if len(block) == BLOCK_LINES or line.end_offset - began_at >= BLOCK_BYTES:
                yield block
                block, began_at = [], line.end_offset
        if block:
            yield block

    def _job(self, line: Asked, end_offset: int) -> LineJob:
        request = requested(line.body, None, self._default_model)
        resolved = resolve(self._catalog, request.model)
        fitted = fit(
            request,
            resolved,
            tokens=self._tokens,
            drop_params=self._record.drops_params,
            scope=self._record.scope,
            forwards_user=self._record.forwards_user,
        )
        return LineJob(
            number=line.number,
            custom_id=line.custom_id,
            fitted=fitted,
            is_base64=request.is_base64,
            asked_model=request.model,
            size_bytes=total_bytes(fitted.inputs),
            end_offset=end_offset,
            lane=resolved.lane,
            price_per_token_pico_usd=resolved.card.price_per_token_pico_usd,
            cache=_cache_use(request),
        )


class ReadAhead:
    """Takes blocks out of an iterator, each in a thread and one ahead of whoever asks."""

    def __init__(self, blocks: Iterator[Block]) -> None:
        """Begin to read; call it where a loop runs."""
        self._blocks = blocks
        self._next = self._begin()

    async def next(self) -> Block:
        """Return the following block, an empty one after the last; raises what reading raises.

        Whoever is cancelled meanwhile loses nothing: the block is the next one's.
        """
        block = await asyncio.shield(self._next)
        if block:
            self._next = self._begin()
        return block

    async def close(self) -> None:
        """Read no more; returns once nobody reads."""
        with suppress(Exception):
            await self._next
        close = getattr(self._blocks, "close", None)
        if close is not None:
            close()

    def _begin(self) -> asyncio.Task[Block]:
        return asyncio.create_task(asyncio.to_thread(next, self._blocks, ()))


def read_ahead(
    store: FileStore, path: str, reader: LineReader, *, offset: int = 0, number: int = 0
) -> ReadAhead:
    """Read the lines of a stored file from `offset` on, where the one after `number` begins."""

    def blocks() -> Iterator[Block]:
        yield from reader.blocks(store.read(path, offset=offset), offset=offset, number=number)

    return ReadAhead(blocks())


def _cache_use(request: EmbeddingRequest) -> CacheUse:
    use = CacheUse.BOTH
    if request.no_cache:
        use &= ~CacheUse.READ
    if request.no_store:
        use &= ~CacheUse.WRITE
    return use
