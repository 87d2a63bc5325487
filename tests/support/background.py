"""Run something asynchronous in a thread with a loop of its own, so that plain tests can use it."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")


@contextmanager
def in_background(make: Callable[[], AbstractAsyncContextManager[T]]) -> Iterator[T]:
    """Enter what `make` returns on another thread's loop; leave it there at the end."""
    entered: Future[tuple[T, asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    thread = threading.Thread(
        target=lambda: asyncio.run(_hold(make, entered)), name="background", daemon=True
    )
    thread.start()
    thing, loop, is_over = entered.result()
    try:
        yield thing
    finally:
        loop.call_soon_threadsafe(is_over.set)
        thread.join()


async def _hold(
    make: Callable[[], AbstractAsyncContextManager[T]],
    entered: Future[tuple[T, asyncio.AbstractEventLoop, asyncio.Event]],
) -> None:
    is_over = asyncio.Event()
    try:
        async with make() as thing:
            entered.set_result((thing, asyncio.get_running_loop(), is_over))
            await is_over.wait()
    except BaseException as error:
        if entered.done():
            raise
        entered.set_exception(error)
