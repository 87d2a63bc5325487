"""Learns which waiting jobs nobody wants any more, and which another worker has answered."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from embedpool_shared.errors import QueueUnavailable
from embedpool_shared.names import LaneNames
from embedpool_shared.redis import Line
from embedpool_worker.held import HeldPack

FRESH_FOR_S = 0.05
"""A mark younger than this may be overlooked; a lone request never pays a round trip for it."""


class Marks:
    """Owns one lane's line for reading cancelled and committed bits."""

    def __init__(self, line: Line, names: LaneNames) -> None:
        """Prepare."""
        self._line = line
        self._names = names
        self._turn = asyncio.Lock()

    async def read(self, packs: Collection[HeldPack]) -> None:
        """Bring these packs' jobs up to date; when Redis is away they stay as they are."""
        checked_at = asyncio.get_running_loop().time()
        try:
            async with self._turn:
                bitmaps = await self._line.call(
                    "MGET", *(self._names.part(pack.pack_id) for pack in packs)
                )
        except QueueUnavailable:
            return
        for pack, bitmap in zip(packs, bitmaps, strict=True):
            pack.checked_at = checked_at
            apply_marks(pack, bitmap or b"")


def apply_marks(pack: HeldPack, bitmap: bytes) -> None:
    """Set what the two bits per job say: committed, cancelled."""
    for number in list(pack.open):
        job = pack.open[number]
        if _is_set(bitmap, 2 * number) and not job.has_ended:
            job.has_ended = True
            pack.was_split = True
            del pack.open[number]
        elif _is_set(bitmap, 2 * number + 1):
            job.is_cancelled = True


def _is_set(bitmap: bytes, bit: int) -> bool:
    return bit // 8 < len(bitmap) and bool(bitmap[bit // 8] & (0x80 >> bit % 8))
