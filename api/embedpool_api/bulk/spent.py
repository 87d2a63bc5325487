"""Whether a caller's limits let a batch begin."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from embedpool_api.admission import Admission
    from embedpool_api.callers import Caller

HOLD_S: Final = 10.0
LEAST_PICO_USD: Final = 1
"""Not even this fits into a budget that is used up."""


def spent_check(admission: Admission) -> Callable[[Caller], Awaitable[None]]:
    """Make what refuses a caller as an embeddings request would be: asked, and given back."""

    async def refuse_spent(caller: Caller) -> None:
        admitted = await admission.admit(
            caller.limited,
            tokens=0,
            cost_pico_usd=LEAST_PICO_USD,
            hold_s=HOLD_S,
        )
        admission.give_back(admitted)

    return refuse_spent
