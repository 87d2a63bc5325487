"""Where a range of a lane's ledger ends up: in accounts, in the lists of them, in the spend log.

Every step may be repeated, by anybody, at any time: an account refuses a range that is not above
the last one it has seen of that lane, and the spend log an entry that is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeVar

from embedpool_shared.accounts import AccountKind
from embedpool_shared.names import Names
from embedpool_shared.redis import Line, RedisRefused
from embedpool_shared.scripts import script
from embedpool_worker.tallies import Tallies

APPLIED_AT_ONCE: Final = 100
COPIED_AT_ONCE: Final = 100
SPEND_LOG_BOUND: Final = 200_000
"""About so many entries are kept; each holds the records of one pack's commit."""
FLEETING_MS: Final = 90 * 24 * 3_600_000
MOST_FLEETING: Final = 100_000
FLEETING: Final = frozenset({AccountKind.END_USER, AccountKind.TAG, AccountKind.PASSTHROUGH})
"""Kinds of account whose ids callers make up: forgotten when idle for long, or when too many."""
LIMITED_ONLY_MS: Final = 600_000
"""Whoever is no kind of account is only limited, like an address; nobody reads such sums."""
LISTED: Final = FLEETING | {AccountKind.MODEL, AccountKind.PROVIDER, AccountKind.CALLER}
"""Kinds that exist by being spent on; whoever creates one of the others lists it."""

T = TypeVar("T")


class Books:
    """The accounts and the spend log, as one lane's records are entered there."""

    def __init__(self, line: Line, names: Names, lane: str) -> None:
        """Enter what was spent in the lane of the model `lane`."""
        self._line = line
        self._names = names
        self._lane = lane

    async def enter(self, entries: Sequence[tuple[bytes, bytes]], tallies: Tallies) -> None:
        """Enter ledger entries (id, records) and what they add up to; raises `QueueUnavailable`."""
        await self._apply(tallies, upto=entries[-1][0])
        await self._list(tallies)
        await self._copy(entries)

    async def _apply(self, tallies: Tallies, *, upto: bytes) -> None:
        calls = []
        for name, tally in tallies.of.items():
            names = self._names.account(name)
            calls.append(
                (
                    [names.account, names.window, names.held],
                    [self._lane, upto, *tally.sums(), _kept_ms(name), *tally.settled()],
                )
            )
        for some in pieces(calls, APPLIED_AT_ONCE):
            for reply in await self._line.run_all(script("apply"), some):
                if isinstance(reply, RedisRefused):
                    raise reply  # the others were applied, and will refuse the repetition

    async def _list(self, tallies: Tallies) -> None:
        """Remember whom there is spend of; let go of made-up ids when there are too many."""
        heard: dict[str, list[str]] = {}
        for name in tallies.of:
            if (kind := _kind(name)) in LISTED:
                heard.setdefault(kind, []).append(name.removeprefix(f"{kind}:"))
        arguments: list[Any] = []
        for kind, ids in heard.items():
            arguments += [MOST_FLEETING if kind in FLEETING else 0, len(ids), *ids]
        lists = [self._names.accounts(kind) for kind in heard]
        forgotten = await self._line.run(script("heard"), lists, arguments)
        gone = [
            ("UNLINK", self._names.account(f"{kind}:{account_id.decode()}").account)
            for kind, ids in zip(heard, forgotten, strict=True)
            for account_id in ids
        ]
        if gone:
            await self._line.call_all(gone)

    async def _copy(self, entries: Sequence[tuple[bytes, bytes]]) -> None:
        names = [self._names.spend_log, self._names.spend_log_seen]
        for some in pieces(entries, COPIED_AT_ONCE):
            arguments: list[Any] = [self._lane, SPEND_LOG_BOUND]
            for entry in some:
                arguments += entry
            await self._line.run(script("spendlog"), names, arguments)


def _kept_ms(account: str) -> int:
    """How long an account that hears of no more is kept; 0 is for good."""
    kind = _kind(account)
    if kind in FLEETING:
        return FLEETING_MS
    return 0 if kind in AccountKind.__members__.values() else LIMITED_ONLY_MS


def _kind(account: str) -> str:
    return account.partition(":")[0]


def pieces(listed: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Cut a list into pieces of at most `size`."""
    return (listed[at : at + size] for at in range(0, len(listed), size))
