"""Whatever blocks is in a thread, and cleaning up comes after it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from embedpool_api.bulk.threads import StoreThreads


async def test_a_call_is_answered_or_fails_as_it_would_here() -> None:
    threads = StoreThreads(max_threads=1)
    try:
        assert await threads.run(divmod, 7, 2) == (3, 1)
        assert await threads.run(threading.current_thread) is not threading.current_thread()
        with pytest.raises(ZeroDivisionError):
            await threads.run(divmod, 7, 0)
    finally:
        threads.close()


async def test_whoever_is_cancelled_goes_on_only_when_the_call_is_over() -> None:
    threads = StoreThreads(max_threads=1)
    has_begun, may_end, is_over = threading.Event(), threading.Event(), threading.Event()

    def call() -> None:
        has_begun.set()
        may_end.wait(10)
        is_over.set()

    async def cleans_up() -> bool:
        try:
            await threads.run(call)
        except asyncio.CancelledError:
            return is_over.is_set()
        return False

    task = asyncio.create_task(cleans_up())
    await asyncio.to_thread(has_begun.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    may_end.set()

    assert await task
    threads.close()
