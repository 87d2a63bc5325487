"""Run a coroutine where waiting costs nothing and time is exact."""

from __future__ import annotations

import asyncio
import warnings
from typing import TYPE_CHECKING, Any, TypeVar

import async_solipsism

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


def in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on a loop whose clock jumps straight to the next timer."""
    with (
        warnings.catch_warnings(),
        asyncio.Runner(loop_factory=async_solipsism.EventLoop) as runner,
    ):
        # What is due within half a tick, by rounding, is due now.
        warnings.simplefilter("ignore", async_solipsism.ResolutionWarning)
        return runner.run(main)
