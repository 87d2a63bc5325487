"""When the same call is worth another try: tenacity, fed with our verdicts.

A key that had to be switched is no try: it rests now, and the permits do the waiting. Any other
second try is paid from the process' retry budget; it is made at once where another key is usable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import random
from typing import Final

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from embedpool_shared.errors import ProviderError
from embedpool_worker.retry_budget import RetryBudget
from embedpool_worker.verdicts import Verdict, verdict

FIRST_PAUSE_S: Final = 0.1
MAX_PAUSE_S: Final = 2.0


def retrying(
    *,
    max_tries: int,
    deadline_at: float,
    budget: RetryBudget,
    has_another_key: Callable[[], bool],
    on_refused: Callable[[], None] = lambda: None,
) -> AsyncRetrying:
    """Repeat what fails for a passing reason, with growing pauses, never past the deadline.

    `on_refused` hears of a further try that the budget forbids.
    """
    return AsyncRetrying(
        retry=retry_if_exception(_is_worth_another_try),
        wait=_pause(has_another_key),
        stop=_is_enough(max_tries, deadline_at, budget, on_refused),
        reraise=True,
    )


def _is_worth_another_try(error: BaseException) -> bool:
    if not isinstance(error, ProviderError):
        return False
    return verdict(error, inputs=1) in {Verdict.TRY_AGAIN, Verdict.SWITCH_KEY}


def _is_the_keys_fault(state: RetryCallState) -> bool:
    error = state.outcome.exception() if state.outcome else None
    return isinstance(error, ProviderError) and verdict(error, inputs=1) is Verdict.SWITCH_KEY


def _pause(has_another_key: Callable[[], bool]) -> Callable[[RetryCallState], float]:
    def pause_s(state: RetryCallState) -> float:
        if _is_the_keys_fault(state) or has_another_key():
            return 0.0  # the permit does the waiting, for whichever key is usable first
        longest = min(MAX_PAUSE_S, FIRST_PAUSE_S * float(2 ** min(state.attempt_number - 1, 10)))
        return longest * (0.5 + random() / 2)

    return pause_s


def _is_enough(
    max_tries: int, deadline_at: float, budget: RetryBudget, on_refused: Callable[[], None]
) -> Callable[[RetryCallState], bool]:
    failures = 0

    def is_enough(state: RetryCallState) -> bool:
        nonlocal failures
        now = asyncio.get_running_loop().time()
        if now + state.upcoming_sleep >= deadline_at:
            return True
        if _is_the_keys_fault(state):
            return False
        failures += 1
        if failures >= max_tries:
            return True
        if budget.allows_another(now):
            return False
        on_refused()
        return True

    return is_enough
