"""Puts leased entries back into their lane, for this worker or for one that died."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from embedpool_shared.jobs import LaneClass
from embedpool_shared.names import GROUP, LaneNames, Names
from embedpool_shared.redis import Line, NoSuchGroup
from embedpool_shared.scripts import script

MOST_AT_ONCE: Final = 200


async def hand_back(
    line: Line, names: LaneNames, lane_class: LaneClass, *, consumer: str, entries: Sequence[str]
) -> None:
    """Return entries nobody has begun; they count as never delivered."""
    await _put_back(line, names, lane_class, consumer, added=0, is_single=False, entries=entries)


async def isolate(
    line: Line, names: LaneNames, lane_class: LaneClass, *, consumer: str, entry: str
) -> None:
    """Return an entry delivered too often as one entry per job, so only one of them can be bad."""
    await _put_back(line, names, lane_class, consumer, added=0, is_single=True, entries=[entry])


async def hand_over(line: Line, names: Names, *, consumer: str) -> int:
    """Return all that a dead worker held, in every lane; count the entries."""
    total = 0
    for _, fields in await line.call("XRANGE", names.lanes, "-", "+") or []:
        lane = names.lane(fields[1].decode())
        for lane_class in LaneClass:
            total += await put_back_all(line, lane, lane_class, consumer=consumer, added=1)
    return total


async def put_back_all(
    line: Line, names: LaneNames, lane_class: LaneClass, *, consumer: str, added: int
) -> int:
    """Return all that a consumer holds in one stream, delete the consumer, count the entries."""
    total, left = 0, 1
    while left:
        try:
            done, left = await _put_back(
                line, names, lane_class, consumer, added=added, is_single=False
            )
        except NoSuchGroup:
            return total
        total += done
    return total


async def drop_consumer(
    line: Line, names: LaneNames, lane_class: LaneClass, *, consumer: str
) -> None:
    """Delete a consumer, unless it holds something by then."""
    with suppress(NoSuchGroup):
        await _put_back(line, names, lane_class, consumer, added=0, is_single=False, most=0)


async def _put_back(
    line: Line,
    names: LaneNames,
    lane_class: LaneClass,
    consumer: str,
    *,
    added: int,
    is_single: bool,
    entries: Sequence[str] = (),
    most: int = MOST_AT_ONCE,
) -> tuple[int, int]:
    done, left = await line.run(
        script("handover"),
        [names.stream(lane_class)],
        [GROUP, consumer, names.tag, added, int(is_single), most, *entries],
    )
    return done, left
