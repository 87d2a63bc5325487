"""Coroutine tests run on a loop of their own, within a bound that says which wait never ended."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from _pytest.python import Function

PATIENCE_S: Final = 60.0

Around = Callable[[], AbstractAsyncContextManager[None]]


def awaited(test: Function, *, around: Around = nullcontext) -> bool | None:
    """Run `test` inside `around()` if it is a coroutine function; None leaves it to pytest."""
    if not inspect.iscoroutinefunction(test.obj):
        return None
    names = inspect.signature(test.obj).parameters
    fixtures = {name: test.funcargs[name] for name in names}
    asyncio.run(_bounded(test.obj, fixtures, around))
    return True


async def _bounded(
    test: Callable[..., Coroutine[Any, Any, None]], fixtures: dict[str, Any], around: Around
) -> None:
    async with asyncio.timeout(PATIENCE_S), around():
        await test(**fixtures)
