"""The scripts for provider keys under a clock of the test's own, on a real server."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from embedpool_shared.provider_keys import GRAIN_MS, WINDOW_MS
from embedpool_shared.scripts import Script, script

if TYPE_CHECKING:
    import redis

TIME: Final = "redis.call('TIME')"


def with_clock(name: str) -> Script:
    """The script of that name, asking a key of its own for the time."""
    source = script(name).source
    assert source.count(TIME) == 1
    source = source.replace(TIME, "redis.call('HMGET', 'clock', 's', 'us')")
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True)
class Leased:
    """The reply of `lease_key`."""

    cooling_ms: int
    retired_ms: int
    may_try: int
    slots: int
    workers: int
    rpm: int
    tpm: int
    requests: int
    tokens: int
    grain: int
    wait_ms: int


class KeyAtWill:
    """One provider key; time passes when the test says so."""

    def __init__(self, client: redis.Redis, *, rpm: int = 0, tpm: int = 0, slots: int = 8) -> None:
        self.client = client
        self.rpm, self.tpm, self.slots = rpm, tpm, slots
        self.now_ms = 1_700_000_000_000
        self.name = "key"

    def lease(
        self,
        worker: str = "w",
        *,
        calls: int = 1,
        tokens: int = 0,
        least: int = 0,
        is_bulk: bool = False,
        in_flight: int = 0,
        may_grow: bool = False,
        is_new: bool = False,
        said: Sequence[int] = (-1, -1, 0, -1, -1, 0),
        returns: Sequence[tuple[int, int, int]] = (),
    ) -> Leased:
        reply = self._run(
            "lease_key",
            worker, in_flight, self.slots, int(may_grow), 100, int(is_new), WINDOW_MS, GRAIN_MS,
            self.rpm, self.tpm, calls, tokens, least, int(is_bulk), *said,
            *(part for returned in returns for part in returned),
        )  # fmt: skip
        return Leased(*reply)

    def rest(self, what: str, for_ms: int = 0, reason: str = "", *, halves: bool = False) -> int:
        slots: int = self._run("rest_key", what, for_ms, reason, self.slots, 100, int(halves))
        return slots

    def ends_in_ms(self) -> int:
        """How long the server keeps the key."""
        left: Any = self.client.pttl(self.name)
        return int(left)

    def _run(self, name: str, *arguments: Any) -> Any:
        seconds, ms = divmod(self.now_ms, 1_000)
        self.client.hset("clock", mapping={"s": seconds, "us": ms * 1_000})
        return self.client.eval(with_clock(name).source, 1, self.name, *arguments)
