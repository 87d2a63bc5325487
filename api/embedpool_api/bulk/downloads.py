"""Sends a file's content as it is read; an answer that was begun is whole, or visibly cut off."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Final

from starlette.responses import Response
from typing_extensions import override

from embedpool_api.passage import PASSAGE
from embedpool_shared.errors import EmbedPoolError, NotFound, StoreUnavailable
from embedpool_shared.file_store import require_store

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from embedpool_api.bulk.parts import BulkParts
    from embedpool_api.bulk.threads import StoreThreads
    from embedpool_shared.batches import FileRecord

END: Final = b""
log = logging.getLogger(__name__)


async def download(parts: BulkParts, record: FileRecord) -> Response:
    """Begin to read a content; raises `StoreUnavailable` before anything is answered."""
    store = require_store(parts.store)
    try:
        size_bytes = await parts.threads.run(store.size_bytes, record.path)
        chunks = await parts.threads.run(store.read, record.path)
        first = await parts.threads.run(next, chunks, END)
    except NotFound:
        raise StoreUnavailable(
            "The file store does not have this file's content; does `files.url` name the same "
            "store for every process?"
        ) from None
    return ContentResponse(first, chunks, size_bytes, parts.threads)


class ContentResponse(Response):
    """A content on its way out."""

    media_type = "application/octet-stream"

    def __init__(
        self, first: bytes, chunks: Iterator[bytes], size_bytes: int, threads: StoreThreads
    ) -> None:
        """Send `first` and then `chunks`, read in `threads`; they make `size_bytes`."""
        super().__init__()
        self.headers["content-length"] = str(size_bytes)
        self._first = first
        self._chunks = chunks
        self._left_bytes = size_bytes
        self._threads = threads

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; if the store fails or has less, end without the rest: the server hangs up."""
        hung_up = asyncio.create_task(_hung_up(receive))
        try:
            await self._sent(hung_up, send)
        except EmbedPoolError as error:
            scope[PASSAGE].error = error
            log.warning("file_content_cut error=%s", type(error).__name__)
        finally:
            hung_up.cancel()
            await self._threads.run(_close, self._chunks)

    async def _sent(self, hung_up: asyncio.Task[None], send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        chunk = self._first
        while chunk and not hung_up.done():
            self._left_bytes -= len(chunk)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            chunk = await self._threads.run(next, self._chunks, END)
        if chunk:
            return
        if self._left_bytes:
            raise StoreUnavailable("The file store has less of this file than it said")
        await send({"type": "http.response.body", "body": b""})


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _close(chunks: Iterator[bytes]) -> None:
    if isinstance(chunks, Generator):  # which has the file open
        chunks.close()
