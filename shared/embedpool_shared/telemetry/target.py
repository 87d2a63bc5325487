"""One role's scrape target: what all its processes counted, and what Redis knows of the pool."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from embedpool_shared.config.settings import Config
from embedpool_shared.lines import lines
from embedpool_shared.measures import Role
from embedpool_shared.names import Names
from embedpool_shared.telemetry.batch_gauges import batch_gauges
from embedpool_shared.telemetry.exposition import Exposition, Reading
from embedpool_shared.telemetry.pool_gauges import pool_gauges
from embedpool_shared.telemetry.run_directory import living_slots

Target = Callable[[], bytes]
"""Writes the metrics of a role as they are now; blocks for a second at most."""


def target(role: Role, config: Config, directory: Path) -> Target:
    """Make the target of a role whose processes leave their numbers in `directory`."""
    names, line = Names(config.redis.prefix), lines(config, f"{role.value}:metrics")
    exposition = Exposition(directory)

    async def read() -> list[Reading]:
        if role is Role.WORKER:
            return await batch_gauges(names, line)
        return await pool_gauges(names, line, slots_per_key=config.pool.slots_per_key)

    def text() -> bytes:
        return exposition.text(living_slots(directory), asyncio.run(read()))

    return text
