"""Async tests run on a loop of their own, within a bound, and leave no connection behind."""

from __future__ import annotations

import asyncio
import inspect
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from integration.one_process import until

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from _pytest.python import Function

TEST_PATIENCE_S: Final = 45.0


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: Function) -> bool | None:
    """Await a test that is a coroutine function."""
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        return None
    names = inspect.signature(test).parameters
    asyncio.run(_bounded(test, {name: pyfuncitem.funcargs[name] for name in names}))
    return True


async def _bounded(test: Callable[..., Coroutine[Any, Any, None]], fixtures: Any) -> None:
    async with asyncio.timeout(TEST_PATIENCE_S):
        before = _open_sockets()
        await test(**fixtures)
        # Over TLS a connection closes with a farewell, which takes some turns of the loop.
        await until(lambda: _open_sockets() <= before, "every connection is closed")


def _open_sockets() -> int:
    links = Path("/proc/self/fd").iterdir()
    return sum(os.readlink(link).startswith("socket:") for link in links if link.is_symlink())
