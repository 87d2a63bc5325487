"""Fixtures that all levels share, and how hard hypothesis tries."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from support.async_tests import awaited
from support.fake_provider import FakeProvider
from support.valkey import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _pytest.python import Function

settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
# A laptop looks elsewhere each time; a slow moment of it is no failure.
settings.register_profile("dev", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: Function) -> bool | None:
    """Await a test that is a coroutine function."""
    return awaited(pyfuncitem)


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[RedisServer]:
    """One real Valkey for the whole session; tests take `valkey`."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def valkey(valkey_server: RedisServer) -> RedisServer:
    """A running Valkey without any data; a test may kill it or pause it."""
    valkey_server.restore()
    return valkey_server


@pytest.fixture
def fake_provider() -> Iterator[FakeProvider]:
    """A well-behaved provider over HTTP, in a thread of its own."""
    with FakeProvider.in_thread() as fake:
        yield fake
