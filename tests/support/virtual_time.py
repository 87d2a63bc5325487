"""Run a coroutine where waiting costs nothing and time is exact."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import async_solipsism

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


def in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on a loop whose clock jumps straight to the next timer."""
    with asyncio.Runner(loop_factory=async_solipsism.EventLoop) as runner:
        return runner.run(main)
