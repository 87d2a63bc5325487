"""What a request is charged to: let in before it is queued, over when it is answered.

A request of a caller without limits, payers or anything to remember costs nothing here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from msgspec import structs

from embedpool_api.admission import Admission
from embedpool_api.asks import Admitted, Ask
from embedpool_api.attribution import NOTHING
from embedpool_api.callers import ANYBODY
from embedpool_api.cutting import Slice
from embedpool_api.orders import Order
from embedpool_shared.jobs import Bill
from embedpool_shared.serials import serials

HOLD_BEYOND_DEADLINE_S: Final = 120.0
"""How long after its deadline a request may still be settled; then its reservations lapse."""

Header = tuple[bytes, bytes]
_requests: Final = serials()


@dataclass(slots=True, eq=False)
class Charge:
    """One request's bill, and what its limits say about it."""

    bill: Bill | None = None
    admitted: Admitted | None = None
    tokens: Sequence[int] = ()  # reserved for each job

    def headers(self) -> Sequence[Header]:
        """Write the `x-ratelimit-*` headers; none for a caller without limits."""
        return self.admitted.headers() if self.admitted else ()

    def bill_of(self, position: int) -> Bill | None:
        """The bill that goes with the job at `position`; only the first carries the metadata."""
        if self.bill is None or position == 0:
            return self.bill
        reserved_tokens = self.tokens[position] if self.tokens else 0
        return structs.replace(
            self.bill, part=position, metadata="", reserved_tokens=reserved_tokens
        )


class Charges:
    """Opens and closes charges."""

    def __init__(self, admission: Admission) -> None:
        """Ask `admission` for callers with limits."""
        self._admission = admission

    def open(
        self,
        order: Order,
        pieces: Sequence[Slice],
        *,
        patience_s: float,
        answer: asyncio.Future[Any],
        post: Callable[[Charge], None],
    ) -> Charge:
        """Let an order of so many pieces in, and `post` it with its charge in that very moment.

        What refuses it ends its `answer`, as `Admission.ask` says. Whatever happens, the charge has
        to be closed.
        """
        caller, jobs = order.caller, len(pieces)
        charge = Charge()
        if caller.account == ANYBODY.account and order.attribution is NOTHING and jobs == 1:
            post(charge)
            return charge
        request = next(_requests)
        accounts, metadata = order.attribution

        bill = Bill(request, jobs, list(accounts), [], order.call_id, metadata)
        if not caller.limited:
            charge.bill = bill
            post(charge)
            return charge

        def let_in(admitted: Admitted) -> None:
            bill.reserved, bill.reservation = admitted.reserved, admitted.share.reservation
            bill.reserved_tokens = charge.tokens[0]
            charge.bill, charge.admitted = bill, admitted
            post(charge)

        is_counted = order.needs_tokens
        charge.tokens = [order.tokens_in(piece) if is_counted else 0 for piece in pieces]
        tokens = sum(charge.tokens)
        cost_pico_usd = tokens * order.price_per_token_pico_usd
        hold_ms = round((patience_s + HOLD_BEYOND_DEADLINE_S) * 1_000)
        self._admission.ask(
            Ask(caller.limited, jobs, tokens, cost_pico_usd, hold_ms, answer, let_in)
        )
        return charge

    def closed(self, charge: Charge, *, never_queued: bool = False) -> None:
        """The request is over; where it was not let in or queued, nothing of it counts."""
        if charge.admitted is None:
            return
        if never_queued:
            self._admission.give_back(charge.admitted)
        else:
            self._admission.ended(charge.admitted)
