"""The worker process: the pool, its presence and its chores, in one task group."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import uvloop

from embedpool_shared import tokens
from embedpool_shared.config.secret import require_secret, secrets_of
from embedpool_shared.config.settings import Config
from embedpool_shared.file_store import configured_store
from embedpool_shared.jobs import MergeKey
from embedpool_shared.lines import jobs_address, lines, main_address
from embedpool_shared.measures import Role
from embedpool_shared.memory import settle_memory
from embedpool_shared.names import Names
from embedpool_shared.presence import WORKER, Presence, Seen
from embedpool_shared.redis import connection_pool
from embedpool_shared.store_probe import StoreProbe
from embedpool_shared.telemetry.outlet import joining
from embedpool_worker.arq_workers import BulkJobs, maintenance_worker, run_for_ever
from embedpool_worker.bulk.means import Means
from embedpool_worker.bulk.service import BulkService, bounds_of, bulk_threads
from embedpool_worker.deployments import Deployment
from embedpool_worker.fleet.understanding import Understanding, understood
from embedpool_worker.learned_caps import LearnedCaps
from embedpool_worker.maintenance import Housekeeper
from embedpool_worker.open_adapters import OpenAdapters, http_options
from embedpool_worker.pool import Pool
from embedpool_worker.pool_parts import PoolParts, pool_settings
from embedpool_worker.published_catalog import PublishedCatalog
from embedpool_worker.vector_cache import vector_cache
from embedpool_worker.watching import Watched, watch

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What the command line says."""

    config_path: str | None
    worker_id: str
    grace_s: float
    says_notices: bool = True  # what there is to say about the configuration


def run(options: WorkerOptions, environ: Mapping[str, str]) -> int:
    """Serve until told to stop; raises `ConfigInvalid`."""
    found = understood(options.config_path, environ)
    main_address(found.loaded.config)
    require_secret(found.loaded.config)
    if options.says_notices:
        for notice in found.notices:
            log.warning("config_%s path=%s reason=%s", notice.kind, notice.path, notice.reason)
    with joining(Role.WORKER, found.loaded.config, environ) as directory:
        watched = watch(found, environ, directory)
        try:
            return uvloop.run(_serve(options, found, watched))
        finally:
            watched.close()


async def _serve(options: WorkerOptions, found: Understanding, watched: Watched) -> int:
    process = WorkerProcess(options, found, watched)
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, process.ask_to_stop)
    await process.run()
    return 0


class WorkerProcess:
    """Everything one worker process runs."""

    def __init__(self, options: WorkerOptions, found: Understanding, watched: Watched) -> None:
        """Put the parts together; `run` connects."""
        self._watched = watched
        config = found.loaded.config
        self._options = options
        self._found = found
        self._fleet = found.fleet
        self._names = Names(config.redis.prefix)
        self._line = lines(config, f"worker:{options.worker_id}")
        self._adapters = OpenAdapters(http_options(config))
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="tokens")
        self._stop = asyncio.Event()
        self._alive: frozenset[str] = frozenset()
        self._learned = LearnedCaps()
        self._catalog = PublishedCatalog(self._line, self._names, found, self._learned)
        self._jobs_address = jobs_address(config)
        secrets = secrets_of(config)
        self._cache = vector_cache(config, self._line, self._names, secrets)
        self._pool = Pool(
            pool_settings(config, worker_id=options.worker_id),
            PoolParts(
                names=self._names,
                line=self._line,
                deployments_of=self._deployments_of,
                adapter_of=self._adapters.of,
                count_in=self._count,
                learned=self._learned,
                recall=self._cache.recall if self._cache else None,
                storing=self._cache.storing if self._cache else None,
                secrets=secrets,
                witness=watched.witness,
            ),
        )
        self._bulk = self._bulk_service(config)
        self._presence = Presence(
            self._line("presence"),
            self._names,
            f"{WORKER}{socket.gethostname()}:{options.worker_id}",
            on_seen=self._see,
            on_away=partial(watched.witness.metrics.redis_up.set, 0),
        )

    def ask_to_stop(self) -> None:
        """Stop gracefully; the second time changes nothing."""
        self._stop.set()

    async def run(self) -> None:
        """Serve until asked to stop; raises what any part raised."""
        try:
            await self._warm()
            settle_memory()
            async with asyncio.TaskGroup() as tasks:
                beside = [
                    tasks.create_task(self._presence.run()),
                    tasks.create_task(self._watched.beat()),
                    tasks.create_task(run_for_ever(self._maintenance_worker)),
                    tasks.create_task(self._catalog.run()),
                ]
                if self._cache:
                    beside.append(tasks.create_task(self._cache.recall.run()))
                    beside.append(tasks.create_task(self._cache.storing.run()))
                if self._bulk:
                    beside.append(tasks.create_task(self._bulk.run()))
                tasks.create_task(self._pool.run())
                tasks.create_task(self._stop_when_asked(beside))
        finally:
            if self._bulk:
                await self._bulk.leave()
            await self._presence.leave()
            await self._adapters.close()
            self._tokenizing.shutdown(wait=False, cancel_futures=True)

    async def _stop_when_asked(self, beside: Sequence[asyncio.Task[None]]) -> None:
        await self._stop.wait()
        if self._bulk:
            self._bulk.ask_to_stop()
        await self._pool.stop(grace_s=self._options.grace_s)
        for task in beside:
            task.cancel()

    async def _warm(self) -> None:
        deployments = [
            deployment
            for lane in self._fleet.groups
            for deployment in self._fleet.deployments_of(lane, lane)
        ]
        await self._adapters.warm(deployments)

    def _deployments_of(self, lane: str, merge: MergeKey) -> Sequence[Deployment]:
        return self._fleet.deployments_of(lane, merge.model, merge.provider)

    async def _count(self, function: Callable[..., Any], *arguments: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._tokenizing, function, *arguments)

    def _bulk_service(self, config: Config) -> BulkService | None:
        store = configured_store(config)
        if store is None:
            return None
        means = Means(
            names=self._names,
            line=self._line,
            store=store,
            threads=bulk_threads(),
            catalog=self._found.catalog,
            tokens=tokens,
            lane=self._pool.lane,
            bounds=bounds_of(config),
            default_model=config.llm.default_embedding_model,
            rows_ended=self._watched.witness.rows_ended,
        )
        probe = StoreProbe(self._line("bulk"), self._names, store)
        return BulkService(means, self._bulk_jobs, probe, worker_id=self._options.worker_id)

    def _bulk_jobs(self) -> BulkJobs:
        name = f"embedpool-worker:{self._options.worker_id}:arq-bulk"
        return BulkJobs(connection_pool(self._jobs_address, client_name=name), self._names)

    def _maintenance_worker(self) -> Any:
        housekeeper = Housekeeper(self._line("tidy"), self._line("directory"), self._names)

        async def tidy() -> None:
            await housekeeper.tidy(frozenset(name.rpartition(":")[2] for name in self._alive))
            if self._bulk:
                await self._bulk.sweep()

        name = f"embedpool-worker:{self._options.worker_id}:arq"
        pool = connection_pool(self._jobs_address, client_name=name)
        return maintenance_worker(pool, self._names, tidy)

    def _see(self, seen: Seen) -> None:
        """Publish the catalogue where Redis has another, and look after vanished workers' work."""
        self._watched.witness.metrics.redis_up.set(1)
        self._catalog.compare(seen.catalog_version)
        if self._alive - seen.workers or seen.was_forgotten:
            self._pool.hurry()
        self._alive = seen.workers
