"""What is known of a provider key by all workers: the hash they share, and how to read it.

The hash of a key (`Names.provider_key`) is written by the scripts `lease_key` and `rest_key` alone,
on Redis' clock; `describe` adds what an operator wants to see. It ends by itself when nobody has
used the key for a while and it need not rest any longer. No secret and nothing derived from one is
in it but the last four characters of a long one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from embedpool_shared.names import Names
from embedpool_shared.redis import Line

GRAIN_MS: Final = 250
"""Leases are counted in grains of so long."""
WINDOW_MS: Final = 61_000
"""… and that long after them: a minute, half a second for which a lease may be used, and half a
second by which one call may be slower on its way to the provider than another."""
UNUSED_FOR_MS: Final = 900_000
"""What is known of a key is kept so long after its last use, and as long as it must rest."""
SHOWN_CHARS: Final = 4
SHORTEST_SHOWN: Final = 20
"""Of a shorter secret, four characters would be too many."""


class KeyField(StrEnum):
    """The fields of a key's hash; `_until` and `_at` are milliseconds on Redis' clock."""

    PROVIDER = "provider"
    DEPLOYMENT = "deployment"
    MODEL = "model"  # the provider's own name
    SHOWN = "shown"  # what may be shown of the secret
    RPM = "rpm"  # as enforced: the configured one, or a lower one the provider stated; 0 none
    TPM = "tpm"
    COOLING_UNTIL = "cooling_until"
    RETIRED_UNTIL = "retired_until"
    REASON = "reason"  # of the last rest
    SLOTS = "slots"  # absent: all that are configured
    SLOTS_MOST = "slots_most"
    WORKERS = "workers"  # `<until> <calls in flight> <worker>;` for each that uses the key
    HELD_REQUESTS = "held_requests"  # the provider counts so many more than we do, until:
    HELD_REQUESTS_UNTIL = "held_requests_until"
    HELD_TOKENS = "held_tokens"
    HELD_TOKENS_UNTIL = "held_tokens_until"


WINDOW: Final = b"w:"
"""A field `w:<grain>` says how many requests and tokens were leased in that grain of time."""


class RestReason(StrEnum):
    """Why a key rests."""

    THROTTLED = "throttled"  # 429, or a failure that said when to come back
    QUOTA = "quota"  # no money left
    REJECTED = "rejected"  # 401 or 403
    FAILING = "failing"  # too many failures in a row
    USED_UP = "used_up"  # the provider said that nothing remains


class KeyCondition(StrEnum):
    """What a key can be used for."""

    READY = "ready"
    COOLING = "cooling"
    RETIRED = "retired"
    OPEN = "open"  # its breaker


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyState:
    """One key as all workers know it; what nobody knows yet is empty."""

    id: str
    provider: str = ""
    deployment: str = ""
    model: str = ""
    shown: str = ""
    condition: KeyCondition = KeyCondition.READY
    rests_for_s: float = 0.0
    reason: str = ""  # of the rest, "" for a ready key
    rpm: int | None = None
    tpm: int | None = None
    used_requests: int = 0  # of the limits, leased in the last minute or held by the provider
    used_tokens: int = 0
    slots: int | None = None
    in_flight: int = 0
    workers: int = 0

    @property
    def remaining_requests(self) -> int | None:
        """How many requests could be made now; None without a limit."""
        return None if self.rpm is None else max(0, self.rpm - self.used_requests)

    @property
    def remaining_tokens(self) -> int | None:
        """How many tokens could be sent now; None without a limit."""
        return None if self.tpm is None else max(0, self.tpm - self.used_tokens)


def shown_part(secret: str) -> str:
    """Write what may be shown of a secret: its end, and of a short one nothing."""
    return f"…{secret[-SHOWN_CHARS:]}" if len(secret) >= SHORTEST_SHOWN else "…"


async def describe(line: Line, name: str, fields: Mapping[KeyField, str]) -> None:
    """Say what a key is for; raises `QueueUnavailable`."""
    parts = (part for pair in fields.items() for part in pair)
    await line.call_all([("HSET", name, *parts), ("PEXPIRE", name, UNUSED_FOR_MS)])


async def read_keys(line: Line, names: Names, ids: Sequence[str]) -> list[KeyState]:
    """Read what is known of these keys, in their order; raises `QueueUnavailable`."""
    (seconds, micros), *hashes = await line.call_all(
        [("TIME",), *(("HGETALL", names.provider_key(key_id)) for key_id in ids)]
    )
    now_ms = int(seconds) * 1_000 + int(micros) // 1_000
    return [
        key_state(key_id, dict(zip(flat[::2], flat[1::2], strict=True)), now_ms=now_ms)
        for key_id, flat in zip(ids, hashes, strict=True)
    ]


def key_state(key_id: str, fields: Mapping[bytes, bytes], *, now_ms: int) -> KeyState:
    """Read a key's hash as it was at that time on Redis' clock."""
    known = _Known(fields, now_ms)
    used = [
        _pair(value)
        for name, value in fields.items()
        if name.startswith(WINDOW) and _is_counted(int(name.removeprefix(WINDOW)), now_ms)
    ]
    users = (user.split(" ", 2) for user in known.text(KeyField.WORKERS).split(";") if user)
    in_flight = [int(calls) for until_ms, calls, _ in users if int(until_ms) > now_ms]
    condition, rests_for_s = known.rest()
    return KeyState(
        id=key_id,
        provider=known.text(KeyField.PROVIDER),
        deployment=known.text(KeyField.DEPLOYMENT),
        model=known.text(KeyField.MODEL),
        shown=known.text(KeyField.SHOWN),
        condition=condition,
        rests_for_s=rests_for_s,
        reason="" if condition is KeyCondition.READY else known.text(KeyField.REASON),
        rpm=known.number(KeyField.RPM) or None,
        tpm=known.number(KeyField.TPM) or None,
        used_requests=sum(requests for requests, _ in used)
        + known.held(KeyField.HELD_REQUESTS, KeyField.HELD_REQUESTS_UNTIL),
        used_tokens=sum(tokens for _, tokens in used)
        + known.held(KeyField.HELD_TOKENS, KeyField.HELD_TOKENS_UNTIL),
        slots=known.number(KeyField.SLOTS) or known.number(KeyField.SLOTS_MOST) or None,
        in_flight=sum(in_flight),
        workers=len(in_flight),
    )


@dataclass(frozen=True, slots=True)
class _Known:
    fields: Mapping[bytes, bytes] = field(repr=False)
    now_ms: int

    def text(self, name: KeyField) -> str:
        return self.fields.get(name.value.encode(), b"").decode()

    def number(self, name: KeyField) -> int:
        return int(float(self.text(name) or 0))

    def held(self, name: KeyField, until: KeyField) -> int:
        return self.number(name) if self.number(until) > self.now_ms else 0

    def rest(self) -> tuple[KeyCondition, float]:
        retired_for_ms = self.number(KeyField.RETIRED_UNTIL) - self.now_ms
        if retired_for_ms > 0:
            return KeyCondition.RETIRED, retired_for_ms / 1_000
        cooling_for_ms = self.number(KeyField.COOLING_UNTIL) - self.now_ms
        if cooling_for_ms <= 0:
            return KeyCondition.READY, 0.0
        is_open = self.text(KeyField.REASON) == RestReason.FAILING.value
        return KeyCondition.OPEN if is_open else KeyCondition.COOLING, cooling_for_ms / 1_000


def _is_counted(grain: int, now_ms: int) -> bool:
    return (now_ms // GRAIN_MS - grain) * GRAIN_MS < WINDOW_MS + GRAIN_MS


def _pair(value: bytes) -> tuple[int, int]:
    first, _, second = value.partition(b" ")
    return int(first), int(second)
