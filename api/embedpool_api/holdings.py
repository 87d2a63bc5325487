"""What this process holds of accounts: requests in flight, and shares to give back. Pure.

Redis is told the number in flight, never a difference, so a lost reply is made good by the next.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from embedpool_api.asks import Share

MAX_UNWANTED: Final = 10_000
"""Shares of one account remembered while Redis is away; older ones lapse by themselves."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What Redis has to be told about one account."""

    account: str
    in_flight: int | None  # None: nothing new
    unwanted: tuple[Share, ...]  # what goes back


@dataclass(slots=True)
class _Holding:
    in_flight: int = 0
    is_stale: bool = False  # Redis may believe another number
    unwanted: dict[Share, None] = field(default_factory=dict)  # oldest first

    @property
    def is_due(self) -> bool:
        return self.is_stale or bool(self.unwanted)


class Holdings:
    """The accounts of which something is held."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._of: dict[str, _Holding] = {}

    @property
    def are_due(self) -> bool:
        """Whether Redis has to be told anything."""
        return any(holding.is_due for holding in self._of.values())

    @property
    def are_unwanted(self) -> bool:
        """Whether anything is to be given back."""
        return any(holding.unwanted for holding in self._of.values())

    @property
    def are_in_flight(self) -> bool:
        """Whether any request in flight is counted."""
        return any(holding.in_flight for holding in self._of.values())

    def begin(self, account: str) -> None:
        """Count a request that Redis counts already."""
        self._holding(account).in_flight += 1

    def end(self, account: str) -> None:
        """Count one request less than Redis does."""
        holding = self._holding(account)
        holding.in_flight -= 1
        holding.is_stale = True

    def doubt(self, account: str) -> None:
        """Redis may have counted what nobody was told."""
        self._holding(account).is_stale = True

    def doubt_all(self) -> None:
        """Whatever is in flight has to be said again."""
        for holding in self._of.values():
            holding.is_stale = holding.is_stale or holding.in_flight > 0

    def give_back(self, account: str, shares: Iterable[Share]) -> None:
        """Nobody will use these."""
        unwanted = self._holding(account).unwanted
        unwanted.update(dict.fromkeys(shares))
        for share in list(islice(unwanted, max(0, len(unwanted) - MAX_UNWANTED))):
            del unwanted[share]

    def stated(self, account: str) -> int:
        """Count the requests in flight for Redis, which then knows."""
        holding = self._of.get(account)
        if holding is None:
            return 0
        holding.is_stale = False
        self._forget_if_empty(account, holding)
        return holding.in_flight

    def notices(self, *, max_shares: int, with_numbers: bool = True) -> list[Notice]:
        """Take out what Redis has to be told, at most so many shares of each account.

        Where only the number in flight is new, it may be left for later.
        """
        notices: list[Notice] = []
        for account, holding in list(self._of.items()):
            if not (holding.unwanted or (with_numbers and holding.is_stale)):
                continue
            unwanted = tuple(islice(holding.unwanted, max_shares))
            for share in unwanted:
                del holding.unwanted[share]
            number = holding.in_flight if holding.is_stale else None
            holding.is_stale = False
            notices.append(Notice(account, number, unwanted))
            self._forget_if_empty(account, holding)
        return notices

    def take_again(self, notice: Notice) -> None:
        """Redis may not have heard this."""
        self.give_back(notice.account, notice.unwanted)
        if notice.in_flight is not None:
            self.doubt(notice.account)

    def _holding(self, account: str) -> _Holding:
        holding = self._of.get(account)
        if holding is None:
            holding = self._of[account] = _Holding()
        return holding

    def _forget_if_empty(self, account: str, holding: _Holding) -> None:
        if not (holding.in_flight or holding.is_due):
            del self._of[account]
