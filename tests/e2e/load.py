"""Steady load on a pool, and a history of it that a checker can judge."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from e2e.asking import UPSTREAM, Answer, Caller, asked, callers
from e2e.store import Store
from support.fake_provider import FakeProvider
from support.vectors import vector_of

_GLANCE_S: Final = 0.01
_PAUSE_S: Final = 0.1
"""A caller who was refused comes back a moment later."""


@dataclass(slots=True)
class History:
    """Every request of a load: its text, and how it ended."""

    model: str
    dims: int
    ended: list[tuple[str, Answer]] = field(default_factory=list)
    begun: int = 0

    @property
    def slowest_s(self) -> float:
        """The longest wait."""
        return max(answer.took_s for _, answer in self.ended)

    @property
    def refused(self) -> list[Answer]:
        """The answers that are errors."""
        return [answer for _, answer in self.ended if answer.status != 200]

    @property
    def refusals(self) -> Counter[str]:
        """How often each error was given."""
        return Counter(f"{answer.status} {answer.error}" for answer in self.refused)

    def has_ended(self, begun: int) -> bool:
        """Tell whether the first so many requests have all ended."""
        first = {text_of(number) for number in range(begun)}
        return len(first & {text for text, _ in self.ended}) == begun

    def check(self) -> None:
        """Every request ended once, and every vector belongs to its text."""
        texts = Counter(text for text, _ in self.ended)
        assert self.ended
        assert len(self.ended) == self.begun
        assert set(texts.values()) == {1}
        for text, answer in self.ended:
            if answer.status == 200:
                assert answer.vectors == [vector_of(text, self.dims, UPSTREAM)]
            else:
                assert answer.error["message"]


def text_of(number: int) -> str:
    """What the request of this number asks for."""
    return f"text {number} under load"


@asynccontextmanager
async def load(url: str, model: str, *, callers_count: int, dims: int) -> AsyncIterator[History]:
    """Ask for one text after the other on so many connections while the context lasts.

    Leaving it waits for every answer still owed.
    """
    history = History(model, dims)
    texts = map(text_of, count())
    is_over = asyncio.Event()

    async def keep_asking(caller: Caller) -> None:
        while not is_over.is_set():
            text = next(texts)
            history.begun += 1
            answer = await caller.ask(asked(model, text))
            history.ended.append((text, answer))
            if answer.status != 200:
                await asyncio.sleep(_PAUSE_S)

    async with callers(callers_count, url) as connected, asyncio.TaskGroup() as tasks:
        for caller in connected:
            tasks.create_task(keep_asking(caller))
        try:
            yield history
        finally:
            is_over.set()


async def until(is_so: Callable[[], bool], what: str, *, patience_s: float = 15.0) -> None:
    """Return as soon as `is_so`, letting callers go on meanwhile; fail saying what did not."""
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + patience_s
    while not is_so():
        assert loop.time() < give_up_at, f"not within {patience_s:g} s: {what}"
        await asyncio.sleep(_GLANCE_S)


async def holder_mid_batch(history: History, fake: FakeProvider, store: Store) -> str:
    """Name a worker whose provider call is in flight; the load must be the fake's only one."""
    holder = ""

    def is_mid_batch() -> bool:
        nonlocal holder
        holder = store.holder(history.model)
        # All that was asked has been sent, so whoever holds something waits for the provider.
        return bool(holder) and fake.totals.items >= history.begun

    await until(is_mid_batch, "a call in flight")
    return holder


async def served(history: History, more: int, *, patience_s: float = 15.0) -> None:
    """Return when so many more requests have ended."""
    goal = len(history.ended) + more
    await until(lambda: len(history.ended) >= goal, f"{more} more answers", patience_s=patience_s)
