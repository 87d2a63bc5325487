"""The kinds of processes under `embedpool serve`: their command lines, their graces, their deaths.

A clean stop takes at most the sum of the patiences: less than five seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from embedpool_cli.children import Launch
from embedpool_cli.embedded_valkey import EmbeddedValkey
from embedpool_cli.identity import fresh_id
from embedpool_cli.plan import Plan
from embedpool_cli.supervisor import Role
from embedpool_shared.errors import QueueUnavailable
from embedpool_shared.lines import lines
from embedpool_shared.names import Names
from embedpool_worker.handover import hand_over

API_GRACE_S: Final = 1.0
API_PATIENCE_S: Final = 1.5
WORKER_GRACE_S: Final = 2.3
WORKER_PATIENCE_S: Final = 2.7
VALKEY_PATIENCE_S: Final = 0.5
HAND_OVER_PATIENCE_S: Final = 1.0


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
        flags.append("--supervised")
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
    line_for = lines(plan.config, "serve")

    async def on_death(worker_id: str) -> None:
        line, directory = line_for("hand-over"), line_for("directory")
        try:
            async with asyncio.timeout(HAND_OVER_PATIENCE_S):
                await hand_over(line, names, consumer=worker_id, directory=directory)
        except (QueueUnavailable, TimeoutError):
            # Living workers sweep up what nobody renews, some seconds later.
            plan.say("Redis did not answer: the worker's requests are taken over when it does")
        finally:
            await line.close()
            await directory.close()

    return on_death
