"""`embedpool serve`: api, workers and, where no Redis is named, a Valkey, all in one.

Whatever a user can get wrong is found before anything starts. Then a supervisor keeps the
processes running. A clean stop takes at most the sum of the patiences below: less than 5 seconds.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from embedpool_cli.children import Launch, child_command
from embedpool_cli.data_directory import ClaimedDirectory
from embedpool_cli.embedded_valkey import EmbeddedValkey, embedded_valkey
from embedpool_cli.identity import fresh_id
from embedpool_cli.listening import base_url, listening_socket
from embedpool_cli.readiness import Front
from embedpool_cli.ready import ready_text
from embedpool_cli.stopping import StopSignals
from embedpool_cli.supervisor import Role, Say, Supervisor
from embedpool_shared.config import Config
from embedpool_shared.config_exposure import refuse_exposure
from embedpool_shared.config_file import load_config
from embedpool_shared.errors import QueueUnavailable
from embedpool_shared.names import Names
from embedpool_shared.redis import Line, RedisAddress, connection_pool
from embedpool_worker.handover import hand_over

API_GRACE_S: Final = 1.0
API_PATIENCE_S: Final = 1.5
WORKER_GRACE_S: Final = 2.3
WORKER_PATIENCE_S: Final = 2.7
VALKEY_PATIENCE_S: Final = 0.5
HAND_OVER_PATIENCE_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """What the command line says."""

    config_path: str | None
    host: str
    port: int
    workers: int
    api_processes: int
    data_directory: Path
    allow_weak_master_key: bool


Command = Callable[..., tuple[str, ...]]
"""Makes the command line of `embedpool <arguments>`."""


def embedpool_command(*arguments: str) -> tuple[str, ...]:
    """Write the command line of another `embedpool` under this one."""
    return child_command("embedpool", *arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is going to run."""

    options: ServeOptions
    config: Config
    environ: Mapping[str, str]
    listener: socket.socket
    say: Say
    valkey: EmbeddedValkey | None = None
    command: Command = embedpool_command

    @property
    def redis(self) -> RedisAddress:
        """Where the lanes are."""
        settings = self.config.redis
        url = settings.lanes_url or settings.url
        own = self.valkey.url if self.valkey else ""
        return RedisAddress(url.get_secret_value() if url else own, settings.ca_file)

    @property
    def url(self) -> str:
        """Where we are."""
        return base_url(self.options.host, self.listener.getsockname()[1])

    @property
    def child_environ(self) -> dict[str, str]:
        """What every child finds in its environment."""
        own = {"EMBEDPOOL_DATA_DIR": str(self.options.data_directory)}
        if self.valkey:
            own["REDIS_URL"] = self.valkey.url
        return {**self.environ, **own}


def serve(options: ServeOptions, environ: Mapping[str, str], *, say: Say, announce: Say) -> int:
    """Serve until told to stop; return the exit code. Raises `ConfigInvalid`.

    `announce` gets the one text people wait for, `say` what they may want to know beside it.
    """
    config = load_config(options.config_path, environ).config
    allow = options.allow_weak_master_key
    refuse_exposure(config, options.host, allow_weak_master_key=allow)
    with listening_socket(options.host, options.port) as listener:
        plan = Plan(options=options, config=config, environ=environ, listener=listener, say=say)
        with _with_store(plan) as complete:
            return asyncio.run(run(complete, announce=announce))


@contextmanager
def _with_store(plan: Plan) -> Iterator[Plan]:
    if plan.config.redis.url is not None:
        yield plan
        return
    with (
        ClaimedDirectory(plan.options.data_directory) as data,
        embedded_valkey(data) as valkey,
    ):
        yield replace(plan, valkey=valkey)


async def run(plan: Plan, *, announce: Say) -> int:
    """Run what `plan` says until told to stop; return the exit code."""
    signals = StopSignals()
    signals.listen()

    async def announce_when_ready() -> None:
        key = plan.config.master_key
        front = Front(plan.url, key.get_secret_value() if key else None)
        models = await front.until_ready(say=plan.say)
        announce(ready_text(plan.url, models, needs_key=key is not None))

    try:
        return await Supervisor(roles(plan), say=plan.say).run(
            signals,
            when_up=announce_when_ready,
            # Whoever connects from now on is refused at once instead of waiting in the backlog.
            before_stop=plan.listener.close,
        )
    finally:
        signals.deafen()


def roles(plan: Plan) -> list[Role]:
    """List the kinds of processes in the order they come up."""
    store = [_valkey_role(plan, plan.valkey)] if plan.valkey else []
    return [*store, _worker_role(plan), _api_role(plan)]


def _valkey_role(plan: Plan, valkey: EmbeddedValkey) -> Role:
    return Role(
        name="valkey",
        count=1,
        launch=lambda: valkey.launch(plan.environ),
        stop_patience_s=VALKEY_PATIENCE_S,
        last_patience_s=VALKEY_PATIENCE_S,
        until_up=lambda child: valkey.until_up(child, say=plan.say),
    )


def _worker_role(plan: Plan) -> Role:
    def launch() -> Launch:
        worker_id = fresh_id("worker")
        flags = [*_config_flag(plan), "--id", worker_id, "--grace-s", str(WORKER_GRACE_S)]
        return Launch(
            process_id=worker_id,
            command=plan.command("worker", *flags),
            environ=plan.child_environ,
        )

    return Role(
        name="worker",
        count=plan.options.workers,
        launch=launch,
        stop_patience_s=WORKER_PATIENCE_S,
        on_death=_handing_over(plan),
    )


def _api_role(plan: Plan) -> Role:
    fd = plan.listener.fileno()

    def launch() -> Launch:
        api_id = fresh_id("api")
        flags = [*_config_flag(plan), "--id", api_id, "--grace-s", str(API_GRACE_S)]
        flags += ["--fd", str(fd), "--host", plan.options.host, "--port", str(plan.options.port)]
        if plan.options.allow_weak_master_key:
            flags.append("--allow-weak-master-key")
        return Launch(
            process_id=api_id,
            command=plan.command("api", *flags),
            environ=plan.child_environ,
            fds=(fd,),
        )

    return Role(
        name="api",
        count=plan.options.api_processes,
        launch=launch,
        stop_patience_s=API_PATIENCE_S,
    )


def _config_flag(plan: Plan) -> list[str]:
    return ["--config", plan.options.config_path] if plan.options.config_path else []


def _handing_over(plan: Plan) -> Callable[[str], Awaitable[None]]:
    names = Names(plan.config.redis.prefix)

    async def on_death(worker_id: str) -> None:
        line = Line(connection_pool(plan.redis, client_name="embedpool-serve"))
        try:
            async with asyncio.timeout(HAND_OVER_PATIENCE_S):
                await hand_over(line, names, consumer=worker_id)
        except (QueueUnavailable, TimeoutError):
            # Living workers sweep up what nobody renews, some seconds later.
            plan.say("Redis did not answer: the worker's requests are taken over when it does")
        finally:
            await line.close()

    return on_death
