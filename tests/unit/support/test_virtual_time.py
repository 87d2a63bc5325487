"""Virtual time is exact and free."""

from __future__ import annotations

import asyncio
import time

from support.virtual_time import in_virtual_time


async def seconds_of_a_nap(nap_s: float) -> float:
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    await asyncio.sleep(nap_s)
    return loop.time() - began_at


def test_an_hour_passes_at_once_and_exactly() -> None:
    began_at = time.monotonic()

    assert in_virtual_time(seconds_of_a_nap(3_600)) == 3_600
    assert time.monotonic() - began_at < 60
