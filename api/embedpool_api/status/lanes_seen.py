"""What a glance at a lane says: the reply of the script `glance`, read. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

MAX_DEAD_LETTERS: Final = 3
"""Of each lane, the newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A job given up because it ended worker after worker."""

    at_ms: int
    model: str
    items: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneSeen:
    """A lane as it is now; waiting is whatever is not answered yet."""

    name: str
    items: int
    bytes: int
    tokens: int
    packs: int
    packs_leased: int
    oldest_s: float
    served_per_s: int
    dead_letters: int
    newest_dead: tuple[DeadLetter, ...] = ()
    holders: tuple[tuple[str, int], ...] = ()  # which worker has leased how many packs


def lane_seen(name: str, reply: Sequence[Any]) -> LaneSeen:
    """Read what `glance` says of a lane."""
    now_us, depth, dead_letters, newest_dead, *streams = reply
    items, bytes_, tokens, *served = (int(value or 0) for value in depth)
    holders: Counter[str] = Counter()
    for _, _, leased in streams:
        for consumer, packs in zip(leased[::2], leased[1::2], strict=True):
            holders[consumer.decode()] += packs
    arrivals = [arrived_us for _, arrived_us, _ in streams if arrived_us]
    return LaneSeen(
        name=name,
        items=max(0, items),
        bytes=max(0, bytes_),
        tokens=max(0, tokens),
        packs=sum(packs for packs, _, _ in streams),
        packs_leased=holders.total(),
        oldest_s=max(0.0, (now_us - min(arrivals)) / 1e6) if arrivals else 0.0,
        served_per_s=_served_per_s(now_us // 1_000_000, *served),
        dead_letters=dead_letters,
        newest_dead=tuple(map(_dead_letter, newest_dead)),
        holders=tuple(sorted(holders.items())),
    )


def packs_by_worker(lanes: Iterable[LaneSeen]) -> Counter[str]:
    """Add up what each worker has leased, over all lanes."""
    packs: Counter[str] = Counter()
    for lane in lanes:
        packs.update(dict(lane.holders))
    return packs


def _served_per_s(now_s: int, second: int, served: int, served_before: int) -> int:
    """Take the last whole second; the one that runs counts only once it is ahead."""
    if second == now_s:
        return max(served, served_before)
    return served if second == now_s - 1 else 0


def _dead_letter(entry: Sequence[Any]) -> DeadLetter:
    entry_id, flat = entry
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    return DeadLetter(
        at_ms=int(entry_id.partition(b"-")[0]),
        model=fields.get(b"model", b"").decode(),
        items=int(fields.get(b"items", 0)),
    )
