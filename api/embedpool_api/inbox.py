"""Reads one lane's replies to this process and settles the answers that wait for them.

A stream read from the last id seen: a reply that arrives on a dead connection is read again, and
whoever subscribes late misses nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from random import random
from typing import Any, Final

from embedpool_api.outbox import INBOX_TTL_MS
from embedpool_api.posted import PostedPack
from embedpool_shared.backoff import pause_s
from embedpool_shared.errors import QueueUnavailable
from embedpool_shared.jobs import WireVersionUnknown, reply_from
from embedpool_shared.redis import Line

log = logging.getLogger(__name__)

BLOCK_S: Final = 30.0
REARM_AFTER_S: Final = 20.0
REPLIES_PER_READ: Final = 64


class Inbox:
    """Owns one lane's inbox line."""

    def __init__(
        self,
        line: Line,
        stream: str,
        packs: dict[str, PostedPack],
        *,
        on_broken: Callable[[], None],
    ) -> None:
        """Settle the jobs of `packs`; report a connection that broke to `on_broken`."""
        self._line = line
        self._stream = stream
        self._packs = packs
        self._on_broken = on_broken
        self._last = "0-0"
        self._trimmed = "0-0"
        self._armed_at = float("-inf")

    async def run(self) -> None:
        """Read for ever."""
        failures = 0
        while True:
            try:
                await self._read()
                failures = 0
            except QueueUnavailable:
                # What was read is trimmed, so reading from the start costs nothing; and a stream
                # that a Redis with a slower clock made anew would stay unread after the last id.
                self._last = "0-0"
                self._on_broken()
                await asyncio.sleep(pause_s(failures, draw=random()))
                failures += 1
                continue
            # Whoever was just answered goes first; asking for more can wait a moment.
            await asyncio.sleep(0)

    async def _read(self) -> None:
        """Trim what was read, re-arm the TTL, and wait for more: one write, one round trip."""
        commands: list[tuple[Any, ...]] = []
        now = asyncio.get_running_loop().time()
        if now - self._armed_at > REARM_AFTER_S:
            commands.append(("PEXPIRE", self._stream, INBOX_TTL_MS))
            self._armed_at = now
        if self._last != self._trimmed:
            commands.append(("XTRIM", self._stream, "MINID", _after(self._last)))
        commands.append(
            (
                "XREAD", "COUNT", REPLIES_PER_READ, "BLOCK", int(BLOCK_S * 1_000),
                "STREAMS", self._stream, self._last,
            )
        )  # fmt: skip
        last = self._last
        await self._line.call_all(commands, patience_s=BLOCK_S + 5.0, heard=self._hear)
        self._trimmed = last

    def _hear(self, replies: list[Any]) -> None:
        """Settle at once: to wait for a turn of one's own costs milliseconds under load."""
        found = replies[-1]
        for entry_id, fields in found[0][1] if found else ():
            self._last = entry_id.decode()
            self._settle(fields[1])

    def _settle(self, blob: bytes) -> None:
        try:
            reply = reply_from(blob)
        except (WireVersionUnknown, ValueError):
            log.exception("reply_unreadable stream=%s", self._stream)
            return
        pack = self._packs.get(reply.pack_id)
        if pack is None:
            return
        pack.was_answered = True
        for job in reply.jobs:
            posted = pack.open.pop(job.number, None)
            if posted is not None:
                posted.answer.settle(posted.position, job)
        if not pack.open and not pack.cancelled:
            self._packs.pop(reply.pack_id, None)


def _after(entry_id: str) -> str:
    milliseconds, _, sequence = entry_id.partition("-")
    return f"{milliseconds}-{int(sequence) + 1}"
