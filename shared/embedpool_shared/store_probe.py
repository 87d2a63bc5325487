"""Whether this process sees the file store of all others: what one writes, another has to read.

The first process writes its store's mark into Redis, all others compare theirs with it. The mark
lives only as long as processes that agree keep renewing it: where Redis or the store was replaced,
what most of them see is the truth a few minutes later, without anybody's help.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final, Protocol

from embedpool_shared.errors import EmbedPoolError, StoreUnavailable
from embedpool_shared.file_store import FileStore
from embedpool_shared.names import Names

EVERY_S: Final = 60.0
LIVES_MS: Final = 180_000
ANOTHER_STORE: Final = (
    "The processes of this pool see different file stores; `files.url` must name one that all of "
    "them share"
)

log = logging.getLogger(__name__)


class ProbeLine(Protocol):
    """A `Line`, or what lets several tasks share one."""

    async def call_all(self, commands: Sequence[tuple[Any, ...]], /) -> list[Any]:
        """Send several commands in one write."""
        ...


async def same_store(line: ProbeLine, names: Names, store: FileStore) -> bool:
    """Say whether `store` is the one that the pool agreed on; where none is agreed on, it is now.

    Raises `StoreUnavailable` and `QueueUnavailable`.
    """
    mark = (await asyncio.to_thread(store.mark)).encode()
    name = names.file_store
    _, agreed = await line.call_all([("SET", name, mark, "NX", "PX", LIVES_MS), ("GET", name)])
    if agreed != mark:
        return False
    await line.call_all([("PEXPIRE", name, LIVES_MS)])
    return True


class StoreProbe:
    """What one process knows of its store."""

    def __init__(self, line: ProbeLine, names: Names, store: FileStore) -> None:
        """Believe the best until the first look."""
        self._line = line
        self._names = names
        self._store = store
        self.is_same = True

    async def run(self) -> None:
        """Look again and again, for ever."""
        while True:
            await self.look()
            await asyncio.sleep(EVERY_S)

    async def look(self) -> None:
        """Compare; while nobody can say, what was known stays."""
        try:
            is_same = await same_store(self._line, self._names, self._store)
        except EmbedPoolError as unknown:
            log.warning("file_store_unknown error=%s", type(unknown).__name__)
            return
        if self.is_same and not is_same:
            log.error("file_store_differs: %s", ANOTHER_STORE)
        elif is_same and not self.is_same:
            log.info("file_store_agrees")
        self.is_same = is_same

    def require(self) -> None:
        """Raise `StoreUnavailable` while this store is another one than the pool's."""
        if not self.is_same:
            raise StoreUnavailable(ANOTHER_STORE)
