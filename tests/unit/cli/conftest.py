"""Async tests run on a loop of their own, within a bound that says which wait never ended."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from _pytest.python import Function

TEST_PATIENCE_S: Final = 30.0


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
        await test(**fixtures)
