"""What one worker holds of a key's requests and tokens of the moment: small, short leases. Pure.

A lease was counted as used, for all workers, when it was granted. So whatever is done with it here
keeps the limit, as long as it is used within its validity: what lapsed, what was asked for in vain
and what a call did not need is handed back, and counted as used if that message is lost.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from embedpool_shared.jobs import LaneClass

ASK_AGAIN_S: Final = 0.25
"""What others hand back makes room sooner than a refusal can know."""


@dataclass(frozen=True, slots=True)
class Need:
    """What the next call of a waiter would use."""

    tokens: int = 0  # of all that waits
    least_tokens: int = 0  # of what must travel together: the oldest item, or a batch once formed
    items: int = 1

    def within(self, *, max_items: int, max_tokens: int | None) -> Need:
        """Bound it by what one call may carry; the least stays what it is."""
        tokens = self.tokens
        if self.items > max_items:
            tokens = -(-tokens * max_items // self.items)
        if max_tokens is not None:
            tokens = min(tokens, max_tokens)
        return Need(max(tokens, self.least_tokens), self.least_tokens, min(self.items, max_items))


@dataclass(slots=True, eq=False)
class Lease:
    """So many calls and tokens, counted in that grain of Redis' time."""

    grain: int
    requests: int
    tokens: int
    valid_until_at: float


@dataclass(frozen=True, slots=True)
class Return:
    """What was leased in that grain and not used; negative tokens were used and not leased."""

    grain: int
    requests: int
    tokens: int


@dataclass(slots=True)
class Share:
    """One call's part of a lease; `tokens` become the true ones as they are known."""

    grain: int
    tokens: int
    valid_until_at: float
    is_used: bool = False  # the provider may have counted the call


@dataclass(slots=True)
class Refusal:
    """What calls of one class were told last; in the past, that there may be room."""

    full_until_at: float = 0.0  # unless something is handed back before
    ask_again_at: float = 0.0


@dataclass(slots=True)
class Headroom:
    """The leases of one key in this process."""

    rpm: int | None
    tpm: int | None
    leases: list[Lease] = field(default_factory=list)
    returns: list[Return] = field(default_factory=list)
    refusals: dict[LaneClass, Refusal] = field(
        default_factory=lambda: {lane_class: Refusal() for lane_class in LaneClass}
    )

    def covers(self, need: Need, *, now: float) -> bool:
        """Tell whether a call can be made at once."""
        return self._fitting(need, now) is not None

    def take(self, need: Need, *, now: float) -> Share | None:
        """Use a lease for one call, as large as it may become; None if a new one is needed."""
        lease = self._fitting(need, now)
        if lease is None:
            return None
        tokens = min(max(need.tokens, need.least_tokens), lease.tokens)
        lease.requests -= 1
        lease.tokens -= tokens
        self.lapse(now)
        return Share(lease.grain, tokens, lease.valid_until_at)

    def lease(self, lease: Lease, lane_class: LaneClass = LaneClass.INTERACTIVE) -> None:
        """Take in what was granted; where bulk finds room, everybody does."""
        self.leases.append(lease)
        for one in {lane_class, LaneClass.INTERACTIVE}:
            self.refusals[one] = Refusal()

    def refused(
        self, wait_s: float, lane_class: LaneClass = LaneClass.INTERACTIVE, *, now: float
    ) -> None:
        """Note that there is no room for so long; where interactive calls find none, nobody does.

        That is by what is counted as used by now.
        """
        for one in {lane_class, LaneClass.BULK}:
            self.refusals[one] = Refusal(now + wait_s, now + min(wait_s, ASK_AGAIN_S))

    def full_until_at(self, lane_class: LaneClass) -> float:
        """Say until when this class was told that there is no room."""
        return self.refusals[lane_class].full_until_at

    def ask_again_at(self, lane_class: LaneClass) -> float:
        """Say when this class may ask for room again."""
        return self.refusals[lane_class].ask_again_at

    def hand_back_all(self) -> None:
        """Use none of the leases any more: the provider says that there is nothing left."""
        self.returns += [Return(one.grain, one.requests, one.tokens) for one in self.leases]
        self.leases = []

    def settle(self, share: Share, tokens: int) -> None:
        """Count so many tokens for a call instead of what was taken for it."""
        if self.tpm is not None and tokens != share.tokens:
            self.returns.append(Return(share.grain, 0, share.tokens - tokens))
            share.tokens = tokens

    def give_back(self, share: Share) -> None:
        """Hand back what no call was made with."""
        if not share.is_used:
            share.is_used = True
            self.returns.append(Return(share.grain, 1, share.tokens))

    def lapse(self, now: float) -> None:
        """Let go of leases that are empty or too old to be used."""
        leases, self.leases = self.leases, []
        for lease in leases:
            if lease.requests and now < lease.valid_until_at:
                self.leases.append(lease)
            elif lease.requests or lease.tokens:
                self.returns.append(Return(lease.grain, lease.requests, lease.tokens))

    def lapses_at(self) -> float | None:
        """Say when there is something to hand back, None if never."""
        if self.returns:
            return 0.0
        return min((lease.valid_until_at for lease in self.leases), default=None)

    def handed_back(self) -> list[Return]:
        """Empty the list of what goes back; whoever takes it must not send it twice."""
        returns, self.returns = self.returns, []
        return returns

    def _fitting(self, need: Need, now: float) -> Lease | None:
        least = need.least_tokens if self.tpm is not None else 0
        for lease in self.leases:
            if lease.requests and now < lease.valid_until_at and lease.tokens >= self._bound(least):
                return lease
        return None

    def _bound(self, least: int) -> int:
        """An item larger than a whole minute's limit travels when the minute is empty."""
        return least if self.tpm is None else min(least, self.tpm)
