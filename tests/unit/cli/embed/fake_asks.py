"""A pool that answers from memory, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import numpy as np

from embedpool_cli.embed.answers import Answered, Refusal, Verdict

DIMS = 4
Refuse = Callable[[Sequence[str]], Refusal | None]


def vector_of(text: str, factor: float = 1.0) -> bytes:
    """What the pool answers for a text."""
    return np.full(DIMS, sum(text.encode()) % 1_000 * factor, "<f4").tobytes()


class FakeAsks:
    """Answers every request, unless `refuse` says otherwise."""

    def __init__(
        self,
        refuse: Refuse = lambda _: None,
        *,
        pico_usd_per_byte: int = 0,
        factor: float = 1.0,
    ) -> None:
        self._factor = factor
        self.asked: list[list[str]] = []
        self.most_at_a_time = 0
        self._now = 0
        self._refuse = refuse
        self._price = pico_usd_per_byte

    @property
    def texts(self) -> list[str]:
        """Everything that was asked for, in order."""
        return [text for texts in self.asked for text in texts]

    async def ask(self, texts: Sequence[str]) -> Answered | Refusal:
        """Answer a moment later."""
        self.asked.append(list(texts))
        self._now += 1
        self.most_at_a_time = max(self.most_at_a_time, self._now)
        await asyncio.sleep(0.001)
        self._now -= 1
        if (refusal := self._refuse(texts)) is not None:
            return refusal
        size = sum(len(text.encode()) for text in texts)
        vectors = [memoryview(vector_of(text, self._factor)) for text in texts]
        return Answered(vectors, DIMS, tokens=size, pico_usd=size * self._price)


def refusing(poison: str, verdict: Verdict = Verdict.SPLIT) -> Refuse:
    """Refuse every request that holds this text."""
    return lambda texts: Refusal(verdict, "no", 400) if poison in texts else None
