"""Gets a request's texts embedded: tries again, splits, or finds the one text to blame.

Invariants
- Every item of a request ends with a vector or a fault, or `Stopped` is raised.
- A text is rejected only for itself: while nobody is answered, none is.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from embedpool_cli.embed.answers import Answered, Refusal
from embedpool_cli.embed.budget import Budget
from embedpool_cli.embed.gate import Gate
from embedpool_cli.embed.pace import pause_s
from embedpool_cli.embed.packing import size_bytes, smaller
from embedpool_cli.embed.rows import Fault, Item
from embedpool_cli.embed.trials import Step, Trial
from embedpool_cli.embed.vector_rows import fits_float16

MAX_HOPELESS_REJECTS: Final = 200
BEYOND_FLOAT16: Final = Fault("a number of the vector is too large for float16")


class Stopped(Exception):
    """The run cannot, or should not, go on."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Asks(Protocol):
    """Asks a pool once."""

    async def ask(self, texts: Sequence[str]) -> Answered | Refusal:
        """Return vectors or a refusal; raises nothing."""
        ...


@dataclass(slots=True)
class Request:
    """Some items on their way."""

    turn: int  # those with a lower one go first
    items: Sequence[Item]
    trial: Trial
    size_bytes: int = 0  # of its texts

    def __post_init__(self) -> None:
        self.size_bytes = sum(size_bytes(item.text) for item in self.items)


class Asking:
    """All requests of one run."""

    def __init__(
        self,
        pool: Asks,
        gate: Gate,
        budget: Budget,
        ended: Callable[[], None],
        *,
        dtype: str,
        patience_s: float,
    ) -> None:
        """`ended` hears that some items have."""
        self.budget = budget
        self.dims: int | None = None
        self.trouble = ""  # why requests are waiting, while none is answered
        self._pool = pool
        self._gate = gate
        self._ended = ended
        self._is_half = dtype == "float16"
        self._patience_s = patience_s
        self._now = asyncio.get_running_loop().time
        self._answered_at = float("-inf")
        self._rejected = 0

    async def embed(self, request: Request) -> None:
        """End every item of `request`; raises `Stopped`."""
        while True:
            outcome, era = await self._ask(request)
            if isinstance(outcome, Answered):
                self._take(request, outcome)
                return
            self._gate.pace.was_too_much(era)
            step = self._step(request.trial, outcome)
            if step is Step.PAUSE:
                self.trouble = outcome.reason
                tries, told_s = request.trial.tries, outcome.retry_after_s
                await asyncio.sleep(pause_s(tries, told_s, draw=random.random()))
                continue
            await self._act(step, request, outcome)
            return

    async def _ask(self, request: Request) -> tuple[Answered | Refusal, int]:
        era = await self._gate.enter(request.turn)
        try:
            outcome = await self._pool.ask([item.text for item in request.items])
            if isinstance(outcome, Answered):
                self._gate.pace.went_well()
                tokens, pico_usd = outcome.tokens, outcome.pico_usd
                self.budget.pay(request.size_bytes, tokens=tokens, pico_usd=pico_usd)
            return outcome, era
        finally:
            self._gate.leave()

    def _take(self, request: Request, answer: Answered) -> None:
        self._answered_at = self._now()
        self.trouble = ""
        if self.dims is None:
            self.dims = answer.dims
        elif answer.dims != self.dims:
            raise Stopped(
                f"the model's vectors have {answer.dims} numbers now, those before had {self.dims}"
            )
        for item, vector in zip(request.items, answer.vectors, strict=True):
            if self._is_half and not fits_float16(vector):
                item.fault = BEYOND_FLOAT16
            else:
                item.vector = vector
        self._ended()

    def _step(self, trial: Trial, refusal: Refusal) -> Step:
        now = self._now()
        if trial.failing_since is None:
            trial.failing_since = now
        step = trial.step(
            refusal,
            is_alone=not self._gate.under_way,
            others_fare_well=self._answered_at > trial.failing_since,
        )
        since = max(trial.failing_since, self._answered_at)
        if step is Step.PAUSE and now - since > self._patience_s:
            raise Stopped(f"nothing worked for {now - since:.0f} s: {refusal.reason}")
        return step

    async def _act(self, step: Step, request: Request, refusal: Refusal) -> None:
        if step is Step.STOP:
            raise Stopped(refusal.reason)
        if step is Step.REJECT:
            self._reject(request.items[0], refusal)
            return
        async with asyncio.TaskGroup() as parts:
            for items in smaller(request.items, refusal.suspect):
                part = Request(request.turn, items, request.trial.part(len(items)))
                parts.create_task(self.embed(part))

    def _reject(self, item: Item, refusal: Refusal) -> None:
        self._rejected += 1
        if self.dims is None and self._rejected >= MAX_HOPELESS_REJECTS:
            raise Stopped(f"not one of {self._rejected} texts was embedded: {refusal.reason}")
        item.fault = Fault(refusal.reason, refusal.status, refusal.code)
        self._ended()
