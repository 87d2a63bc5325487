"""The api process: every part put together, served by uvicorn."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from secrets import token_bytes, token_urlsafe
from typing import Any, Final

import uvicorn

from embedpool_api.accounts.spend_log import SpendLog
from embedpool_api.accounts.store import Accounts
from embedpool_api.admission import Admission
from embedpool_api.app import create_app
from embedpool_api.arrivals import Arrivals
from embedpool_api.bulk.assembly import Bulk
from embedpool_api.callers import Caller, Gate
from embedpool_api.charges import Charges
from embedpool_api.embeddings import Embeddings, EndpointSettings
from embedpool_api.identities import Identities
from embedpool_api.known_names import rules_out
from embedpool_api.lanes import Lanes
from embedpool_api.observer import Observer
from embedpool_api.outbox import QueueBounds
from embedpool_api.own_keys import own_key_holders
from embedpool_api.parts import ApiParts
from embedpool_api.routes.admin import AdminParts
from embedpool_api.routes.status import StatusParts
from embedpool_api.status.collector import Collector
from embedpool_api.status.sessions import Sessions
from embedpool_api.watching import Watched, watch
from embedpool_shared import tokens
from embedpool_shared.config.exposure import refuse_exposure
from embedpool_shared.config.file import LoadedConfig, load_config
from embedpool_shared.config.secret import require_secret, secrets_of
from embedpool_shared.config.settings import Config
from embedpool_shared.lines import lines
from embedpool_shared.measures import Role
from embedpool_shared.memory import settle_memory
from embedpool_shared.names import Names
from embedpool_shared.sealing import NONCE_BYTES, Secrets
from embedpool_shared.telemetry.outlet import joining

log = logging.getLogger(__name__)

BACKLOG: Final = 2_048


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiOptions:
    """What the command line says."""

    config_path: str | None
    host: str
    port: int
    fd: int | None  # a socket already bound, shared with other api processes
    api_id: str
    allow_weak_master_key: bool
    grace_s: float


def run(options: ApiOptions, environ: Mapping[str, str]) -> int:
    """Serve until told to stop; raises `ConfigInvalid`."""
    loaded = load_config(options.config_path, environ)
    config = loaded.config
    require_secret(config)
    refuse_exposure(config, options.host, allow_weak_master_key=options.allow_weak_master_key)
    with joining(Role.API, config, environ) as directory:
        watched = watch(config, environ, directory, version=_version())
        try:
            return _serve(_app(loaded, options, watched), options)
        finally:
            watched.close()


def _serve(app: Any, options: ApiOptions) -> int:
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=options.host,
            port=options.port,
            loop="uvloop",
            http=Arrivals,
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=max(1, round(options.grace_s)),
        )
    )
    settle_memory()
    sockets = None if options.fd is None else [socket.socket(fileno=options.fd)]
    server.run(sockets=sockets)
    return 0 if server.started else 1


def _app(loaded: LoadedConfig, options: ApiOptions, watched: Watched) -> Any:
    config = loaded.config
    names = Names(config.redis.prefix)
    line = lines(config, f"api:{options.api_id}")
    secrets = secrets_of(config) or Secrets(token_urlsafe(32))  # nobody has a key in open mode
    running = Running()
    lanes = Lanes(
        names,
        line,
        api_id=options.api_id,
        bounds=QueueBounds(config.pool.max_queue_items, config.pool.max_queue_bytes),
        seal=lambda plain, place: secrets.seal(plain, place=place, nonce=token_bytes(NONCE_BYTES)),
        spawn=running.spawn,
    )
    observer = Observer(
        names, line, api_id=options.api_id, on_forgotten=lanes.repeat_all, spawn=running.spawn
    )
    accounts = Accounts(
        line,
        names,
        secrets,
        prefixes=(config.auth.key_prefix, *config.auth.accepted_prefixes),
        changed=lambda: identities.forget(),  # noqa: PLW0108 (made below)
    )
    identities = Identities(accounts.identity, secrets)
    identify = _gate(config, identities, secrets).identify
    metrics = watched.metrics_parts(config, identify)
    admission = Admission(line, names, api_id=options.api_id, spawn=running.spawn)
    bulk = Bulk(config, names, line, admission=admission, spawn=running.spawn)
    collector = Collector(names, line, catalog=lambda: observer.catalog)

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        running.spawn(observer.run())
        running.spawn(watched.beat(observer))
        bulk.begin()
        try:
            yield
        finally:
            await running.end()
            await bulk.close()
            await accounts.close()
            await collector.close()
            await observer.leave()

    return create_app(
        ApiParts(
            embeddings=Embeddings(
                _endpoint_settings(config, has_file=loaded.path is not None),
                identify=identify,
                observer=observer,
                lanes=lanes,
                charges=Charges(admission),
                tokens=tokens,
            ),
            catalog=lambda: observer.catalog,
            health=observer.look,
            identify=identify,
            admin=AdminParts(
                accounts=accounts,
                spend_log=SpendLog(accounts.admin_line, names),
                identify=identify,
                catalog=lambda: observer.catalog,
                has_master_key=config.master_key is not None,
            ),
            status=_status_parts(config, collector, identify, secrets),
            bulk=bulk.parts(identify),
            metrics=metrics,
            witness=watched.witness,
            lifespan=lifespan,
            version=_version(),
        )
    )


def _status_parts(
    config: Config,
    collector: Collector,
    identify: Callable[..., Awaitable[Caller]],
    secrets: Secrets,
) -> StatusParts:
    master_key = config.master_key
    return StatusParts(
        look=collector.look,
        identify=identify,
        sessions=Sessions(master_key.get_secret_value(), secrets) if master_key else None,
        version=_version(),
    )


def _gate(config: Config, identities: Identities, secrets: Secrets) -> Gate:
    master_key = config.master_key
    return Gate(
        master_key.get_secret_value() if master_key else None,
        find=identities.find,
        own_key_holder=own_key_holders(config.auth, secrets),
        share_across=config.pool.share_across,
    )


def _version() -> str:
    try:
        return version("embedpool")
    except PackageNotFoundError:
        return "0"  # run from a source tree


def _endpoint_settings(config: Config, *, has_file: bool) -> EndpointSettings:
    return EndpointSettings(
        request_timeout_s=config.request_timeout_s,
        default_model=config.llm.default_embedding_model,
        drop_params=bool(config.litellm_settings.drop_params),
        forwards_user=config.pool.forward_user,
        refuses=rules_out(config, has_file=has_file),
    )


class Running:
    """The tasks of this process: they live as long as it does."""

    def __init__(self) -> None:
        """Run nothing yet."""
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work`; its failure ends the process."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_stop_if_failed)

    async def end(self) -> None:
        """Cancel them all."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _stop_if_failed(task: asyncio.Task[None]) -> None:
    """A part that ended by an error of ours would leave requests hanging: end the process."""
    if not task.cancelled() and task.exception() is not None:
        log.critical("api_part_failed", exc_info=task.exception())
        asyncio.get_running_loop().stop()
