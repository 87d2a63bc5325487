"""Runs a batch again after a crash, and gives up only where it crashes at the same place."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from random import random
from typing import Final, Protocol

from embedpool_shared.batches import LineProblem
from embedpool_shared.errors import QueueUnavailable
from embedpool_worker.bulk.booking import Superseded
from embedpool_worker.bulk.patience import pause_s

log = logging.getLogger(__name__)

MAX_CRASHES: Final = 5
"""So often in a row a run may crash without having come further."""


class Run(Protocol):
    """One try to bring a batch to its end."""

    line: int
    """How far it came."""

    async def run(self) -> None:
        """Return when the batch has ended."""

    async def fail(self, problem: LineProblem) -> None:
        """End the batch for that reason."""


async def see_through(make_run: Callable[[], Run], batch_id: str) -> None:
    """Bring a batch to its end, or leave it to whoever has it now."""
    crashes, line = 0, -1
    while True:
        run = make_run()
        try:
            await run.run()
        except Superseded as superseded:
            log.info("batch_superseded batch=%s reason=%s", batch_id, superseded)
        except QueueUnavailable as away:
            log.warning("batch_interrupted batch=%s reason=%s", batch_id, away)
            await asyncio.sleep(pause_s(0, draw=random()))
            continue
        except Exception:
            log.exception("batch_crashed batch=%s line=%d", batch_id, run.line)
            crashes, line = (crashes + 1 if run.line == line else 1), run.line
            if crashes < MAX_CRASHES:
                await asyncio.sleep(pause_s(crashes, draw=random()))
                continue
            await run.fail(_hopeless(line))
        return


def _hopeless(line: int) -> LineProblem:
    return LineProblem(
        code="internal_error",
        message="embedpool failed on this batch again and again; its logs say more.",
        line=line + 1 if line > 0 else None,
    )
