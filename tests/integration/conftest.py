"""A test here leaves no connection behind."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from integration.one_process import until
from support.async_tests import awaited

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from _pytest.python import Function


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: Function) -> bool | None:
    """Await a test that is a coroutine function, and then the end of its connections."""
    return awaited(pyfuncitem, around=_without_leaks)


@asynccontextmanager
async def _without_leaks() -> AsyncIterator[None]:
    before = _open_sockets()
    yield
    # Over TLS a connection closes with a farewell, which takes some turns of the loop.
    await until(lambda: _open_sockets() <= before, "every connection is closed")


def _open_sockets() -> int:
    links = Path("/proc/self/fd").iterdir()
    return sum(os.readlink(link).startswith("socket:") for link in links if link.is_symlink())
