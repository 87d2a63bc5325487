"""What the routes about files and batches are given, and who may use them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedpool_api.callers import Caller, require_own
from embedpool_api.middleware import HEADERS
from embedpool_api.passage import PASSAGE
from embedpool_shared.file_store import require_store

if TYPE_CHECKING:
    from starlette.requests import Request

    from embedpool_api.bulk.threads import StoreThreads
    from embedpool_shared.batch_records import BatchRecords
    from embedpool_shared.config.settings import FilesSettings
    from embedpool_shared.file_records import FileRecords
    from embedpool_shared.file_store import FileStore


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkParts:
    """The running pieces behind the routes about files and batches."""

    files: FileRecords
    batches: BatchRecords
    store: FileStore | None
    """None where `files.url` names none: every route says so then."""
    threads: StoreThreads
    bounds: FilesSettings
    identify: Callable[[Mapping[bytes, bytes]], Awaitable[Caller]]
    """Tells the caller by its headers; `Gate.identify` is one."""
    refuse_spent: Callable[[Caller], Awaitable[None]]
    """Raises what an embeddings request of that caller would be refused with by its limits."""
    require_shared: Callable[[], None]
    """Raises `StoreUnavailable` while this process sees another store than all others."""
    hurry: Callable[[str], None]
    """Tells whoever runs batches of a new one; without hearing of it they find it by themselves."""
    forwards_user: bool = False
    drops_params: bool = False


async def bulk_caller(parts: BulkParts, request: Request) -> Caller:
    """Say who asks; raises `StoreUnavailable` where there is no file store.

    Raises `RouteNotAllowed` for a caller with a provider's own key.
    """
    caller = await parts.identify(request.scope[HEADERS])
    request.scope[PASSAGE].caller = caller
    require_own(caller)
    require_store(parts.store)
    return caller
