"""Lets requests in as far as the limits of their key, team and user go; Redis decides.

Invariants:
- The requests of a tick make one script call per account, all calls one write; what an account lets
  in of them is one reservation. A crowd goes in portions.
- What one account granted and another refused goes back, and so does what a caller who has gone
  or was told something else was granted; a reply that was lost makes no difference.
- Redis away: whoever waits is told within a second, and nothing is let in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from itertools import chain
from typing import Any, Final

from embedpool_api.account_calls import Hearing, limits_unknown, run_for_accounts
from embedpool_api.allowances import refusal, reserves, standings
from embedpool_api.asks import Admitted, Ask, Call, Share, calls_of
from embedpool_api.holdings import Holdings, Notice
from embedpool_shared.accounts import Limits
from embedpool_shared.errors import EmbedPoolError, QueueUnavailable
from embedpool_shared.names import Names
from embedpool_shared.redis import Line, RedisRefused
from embedpool_shared.serials import serials

MAX_CALL_REQUESTS: Final = 256
WHOLE_REQUESTS: Final = 32
"""Of a larger crowd the first half is queued, sent and answered while the next are asked for.

Measured with 64 callers: all in one call made a fifth fewer requests a second; 8 cost half again
as much of Redis and of the workers.
"""
MAX_NOTICE_SHARES: Final = 256
PAUSE_S: Final = 0.1
"""Before the next try after one failed; with `account_calls.PATIENCE_S` less than a second."""
LEASE_MS: Final = 15_000
SAY_AFTER_S: Final = 0.01
"""A request that ended may count so much longer; most often the next one says the number first."""
REARM_S: Final = 5.0
"""How often requests in flight are said again, so that they count no longer than we live."""


class Admission:
    """Owns the admission line."""

    def __init__(
        self,
        line: Callable[[str], Line],
        names: Names,
        *,
        api_id: str,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        """Connect when the first limited request comes; `spawn` runs a task as long as we live."""
        self._make_line = line
        self._names = names
        self._api_id = api_id
        self._spawn = spawn
        self._reservations = serials()
        self._line: Line | None = None
        self._asks: list[Ask] = []
        self._holdings = Holdings()
        self._is_rearming = False
        self._says_numbers = False
        self._is_in_doubt = False
        self._saying: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()

    async def admit(
        self,
        limited: Sequence[tuple[str, Limits]],
        *,
        tokens: int,
        cost_pico_usd: int,
        hold_s: float,
    ) -> Admitted:
        """Await what `ask` asks, for one job; no limits are no wait. Raises what ends the wait."""
        if not limited:
            return Admitted(Share(""))
        verdict: asyncio.Future[Admitted] = asyncio.get_running_loop().create_future()
        hold_ms = max(1, round(hold_s * 1_000))
        let_in = verdict.set_result
        self.ask(Ask(limited, 1, tokens, cost_pico_usd, hold_ms, verdict, let_in))
        try:
            return await verdict
        except asyncio.CancelledError:
            if not verdict.cancelled() and verdict.exception() is None:
                self.give_back(verdict.result())
            raise

    def ask(self, ask: Ask) -> None:
        """Ask a request's accounts to let it in.

        `let_in` goes on with it in the very moment of the verdict, unless `waiter` is done by then;
        from then on it is whoever asks that gives it back. What is reserved lapses after `hold_ms`
        unless settled or given back before. A refusal ends `waiter`, with `RequestExceedsLimit`,
        `BudgetExceeded`, `RateLimited` or `QueueUnavailable`.
        """
        self._asks.append(ask)
        self._rouse()

    def ended(self, admitted: Admitted) -> None:
        """The request is over, however it ended: it is in flight no more."""
        if admitted.has_ended:
            return
        admitted.has_ended = True
        for standing in admitted.standings:
            if standing.is_in_flight:
                self._holdings.end(standing.account)
                self._say_soon()

    def give_back(self, admitted: Admitted) -> None:
        """The request never reached the queue: it counts nowhere, and ended."""
        for account in admitted.reserved:
            self._holdings.give_back(account, [admitted.share])
            self._rouse()
        self.ended(admitted)

    def _say_soon(self) -> None:
        """Tell how many are in flight in a moment: most often the next request does."""
        if self._saying is None:
            self._saying = asyncio.get_running_loop().call_later(SAY_AFTER_S, self._say_now)

    def _say_now(self) -> None:
        self._saying = None
        self._says_numbers = True
        self._rouse()

    def _rouse(self) -> None:
        self._wake.set()
        if self._line is None:
            self._line = self._make_line("admission")
            self._spawn(self._run(self._line))

    async def _run(self, line: Line) -> None:
        """Ask and give back for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                if self._is_in_doubt:
                    # Else whoever asks now could be refused for what nobody knows to be granted.
                    await self._give_back_due(line)
                    self._is_in_doubt = False
                while self._has_something_to_say():
                    await self._ask_next(line)
                    await self._give_back_due(line)
            except QueueUnavailable:
                self._says_numbers = True
                self._fail(self._asks)
                self._asks = []
                await asyncio.sleep(PAUSE_S)
                self._wake.set()

    def _has_something_to_say(self) -> bool:
        holdings = self._holdings
        return bool(
            self._asks or holdings.are_unwanted or (self._says_numbers and holdings.are_due)
        )

    async def _ask_next(self, line: Line) -> None:
        """Put the oldest requests to their accounts and hand out the verdicts."""
        portion = min(MAX_CALL_REQUESTS, max(WHOLE_REQUESTS, len(self._asks) // 2))
        taken, self._asks = self._asks[:portion], self._asks[portion:]
        asks = [ask for ask in taken if not ask.waiter.done()]
        calls = calls_of(asks)
        reservation = next(self._reservations)
        hearing = Hearing(partial(self._hear, reservation, calls, asks))
        arguments = [self._admit_arguments(call, reservation) for call in calls]
        try:
            hearing(await run_for_accounts(line, "admit", arguments, heard=hearing))
        except QueueUnavailable:
            if not hearing.is_over:
                self._doubt(calls, reservation)
                self._fail(asks)
            raise

    def _hear(
        self, reservation: str, calls: Sequence[Call], asks: Sequence[Ask], replies: Sequence[Any]
    ) -> None:
        for call, reply in zip(calls, replies, strict=True):
            if isinstance(reply, QueueUnavailable):
                self._doubt([call], reservation)
                for ask in call.asks:
                    ask.is_refused_by_redis = True
            else:
                self._read(call, reply)
        for number, ask in enumerate(asks):
            self._decide(ask, ask.share_of(reservation, number))

    def _admit_arguments(self, call: Call, reservation: str) -> tuple[list[str], list[Any]]:
        names = self._names.account(call.account)
        in_flight = 0 if call.limits.parallel is None else self._holdings.stated(call.account)
        return [names.account, names.window, names.held], call.arguments(
            reservation, api_id=self._api_id, in_flight=in_flight, lease_ms=LEASE_MS
        )

    def _read(self, call: Call, reply: Sequence[int]) -> None:
        tokens = [ask.tokens for ask in call.asks]
        for ask, standing in zip(
            call.asks, standings(call.account, call.limits, reply, tokens), strict=True
        ):
            ask.standings.append(standing)
            if standing.is_in_flight:
                self._holdings.begin(call.account)
                self._keep_armed()

    def _decide(self, ask: Ask, share: Share) -> None:
        admitted = Admitted(share, ask.standings)
        error: EmbedPoolError | None = limits_unknown() if ask.is_refused_by_redis else None
        error = error or refusal(ask.standings, tokens=ask.tokens)
        if error is None and ask.pass_on(admitted):
            return
        self.give_back(admitted)
        if error is not None:
            ask.refuse(error)

    def _doubt(self, calls: Sequence[Call], reservation: str) -> None:
        """Take back whatever these calls may have been granted."""
        self._is_in_doubt = True
        for call in calls:
            if reserves(call.limits):
                self._holdings.give_back(call.account, [Share(reservation)])
            if call.limits.parallel is not None:
                self._holdings.doubt(call.account)

    def _fail(self, asks: Sequence[Ask]) -> None:
        for ask in asks:
            ask.refuse(limits_unknown())

    async def _give_back_due(self, line: Line) -> None:
        with_numbers, self._says_numbers = self._says_numbers, False
        notices = self._holdings.notices(max_shares=MAX_NOTICE_SHARES, with_numbers=with_numbers)
        if not notices:
            return
        calls = [self._release_arguments(notice) for notice in notices]
        try:
            replies = await run_for_accounts(line, "release", calls)
        except QueueUnavailable:
            for notice in notices:
                self._holdings.take_again(notice)
            raise
        for notice, reply in zip(notices, replies, strict=True):
            if isinstance(reply, QueueUnavailable) and not isinstance(reply, RedisRefused):
                self._holdings.take_again(notice)
                raise reply

    def _release_arguments(self, notice: Notice) -> tuple[list[str], list[Any]]:
        names = self._names.account(notice.account)
        in_flight = "" if notice.in_flight is None else notice.in_flight
        shares = chain.from_iterable(notice.unwanted)
        return [names.window, names.held], [self._api_id, in_flight, LEASE_MS, *shares]

    def _keep_armed(self) -> None:
        if not self._is_rearming:
            self._is_rearming = True
            self._spawn(self._rearm())

    async def _rearm(self) -> None:
        """Say what is in flight again and again, until nothing is."""
        while self._holdings.are_in_flight:
            await asyncio.sleep(REARM_S)
            self._holdings.doubt_all()
            self._say_now()
        self._is_rearming = False
