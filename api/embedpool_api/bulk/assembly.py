"""The running pieces behind files and batches, put together for one api process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Final

from embedpool_api.accounts.shared_line import SharedLine
from embedpool_api.bulk.arq_jobs import BatchJobs
from embedpool_api.bulk.parts import BulkParts
from embedpool_api.bulk.spent import spent_check
from embedpool_api.bulk.threads import StoreThreads
from embedpool_shared.batch_records import BatchRecords
from embedpool_shared.file_records import FileRecords
from embedpool_shared.file_store import configured_store
from embedpool_shared.lines import jobs_address
from embedpool_shared.redis import connection_pool
from embedpool_shared.store_probe import StoreProbe

if TYPE_CHECKING:
    from embedpool_api.admission import Admission
    from embedpool_api.callers import Caller
    from embedpool_shared.config.settings import Config
    from embedpool_shared.names import Names
    from embedpool_shared.redis import Line

ROLE: Final = "bulk"
Spawn = Callable[[Coroutine[Any, Any, None]], object]


class Bulk:
    """Owns the line, the threads and the tasks of files and batches."""

    def __init__(
        self,
        config: Config,
        names: Names,
        line: Callable[[str], Line],
        *,
        admission: Admission,
        spawn: Spawn,
    ) -> None:
        """Connect to nothing yet; raises `ConfigInvalid` for a `files.url` that leads nowhere."""
        self._config = config
        self._spawn = spawn
        self._line = SharedLine(line(ROLE))
        self._files = FileRecords(self._line, names)
        self._batches = BatchRecords(self._line, names)
        self._threads = StoreThreads()
        store = self._store = configured_store(config)
        self._probe = None if store is None else StoreProbe(self._line, names, store)
        self._refuse_spent = spent_check(admission)
        pool = connection_pool(jobs_address(config), client_name="embedpool-api:bulk-jobs")
        self._jobs = BatchJobs(pool, names)

    def parts(self, identify: Callable[[Mapping[bytes, bytes]], Awaitable[Caller]]) -> BulkParts:
        """Describe what the routes need."""
        return BulkParts(
            files=self._files,
            batches=self._batches,
            store=self._store,
            threads=self._threads,
            bounds=self._config.files,
            identify=identify,
            refuse_spent=self._refuse_spent,
            require_shared=self._require_shared,
            hurry=self._hurry,
            forwards_user=self._config.pool.forward_user,
            drops_params=bool(self._config.litellm_settings.drop_params),
        )

    def begin(self) -> None:
        """Look after the store from now on."""
        if self._probe is not None:
            self._spawn(self._probe.run())

    async def close(self) -> None:
        """Hang up."""
        self._threads.close()
        await self._jobs.close()
        await self._line.close()

    def _require_shared(self) -> None:
        if self._probe is not None:
            self._probe.require()

    def _hurry(self, batch_id: str) -> None:
        self._spawn(self._jobs.enqueue(batch_id))
