"""`embedpool serve`: api, workers and, where no Redis is named, a Valkey, all in one.

Whatever a user can get wrong is found before anything starts. Then a supervisor keeps the
processes running.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from embedpool_cli.data_directory import ClaimedDirectory
from embedpool_cli.embedded_valkey import embedded_valkey
from embedpool_cli.listening import listening_socket
from embedpool_cli.plan import Plan, ServeOptions
from embedpool_cli.readiness import Front
from embedpool_cli.ready import ready_text
from embedpool_cli.roles import roles
from embedpool_cli.secret_file import kept_secret
from embedpool_cli.stopping import StopSignals
from embedpool_cli.supervisor import Say, Supervisor
from embedpool_shared.config.exposure import refuse_exposure
from embedpool_shared.telemetry.outlet import parenting
from embedpool_worker.fleet.understanding import understood


def serve(options: ServeOptions, environ: Mapping[str, str], *, say: Say, announce: Say) -> int:
    """Serve until told to stop; return the exit code. Raises `ConfigInvalid`.

    `announce` gets the one text people wait for, `say` what they may want to know beside it.
    """
    found = understood(options.config_path, environ)
    config = found.loaded.config
    allow = options.allow_weak_master_key
    refuse_exposure(config, options.host, allow_weak_master_key=allow)
    for notice in found.notices:
        say(f"{notice.kind}: {notice.path}: {notice.reason}")
    with listening_socket(options.host, options.port) as listener:
        plan = Plan(options=options, config=config, environ=environ, listener=listener, say=say)
        with _with_store(plan) as stored, parenting(stored.config) as directory:
            complete = with_secret(stored).with_run_directory(directory)
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
        yield plan.with_store(valkey)


def with_secret(plan: Plan) -> Plan:
    """Add the secret of the data directory where none is configured; raises `ConfigInvalid`."""
    if plan.config.auth.secret is not None:
        return plan
    return plan.with_secret(kept_secret(plan.options.data_directory))


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
