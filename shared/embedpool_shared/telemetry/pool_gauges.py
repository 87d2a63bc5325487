"""What only Redis knows of the pool, read when somebody scrapes: true without any worker.

Invariants
- All of it within `PATIENCE_S`; what Redis does not say by then is absent, never old.
- Labels come from the catalogue; a lane that is not in it counts as an unknown model's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec import MsgspecError

from embedpool_shared.catalog import Catalog, KeyCard, catalog_from
from embedpool_shared.errors import QueueUnavailable
from embedpool_shared.jobs import LaneClass
from embedpool_shared.measures import CLASS, KEY_STATE, UNKNOWN_MODEL, measure
from embedpool_shared.names import Names
from embedpool_shared.presence import API, WORKER
from embedpool_shared.provider_keys import KeyState, read_keys
from embedpool_shared.redis import Line
from embedpool_shared.scripts import script
from embedpool_shared.telemetry.exposition import Reading

PATIENCE_S: Final = 1.0
MAX_LANES: Final = 1_000
_OF_PROCESSES: Final = {WORKER: "workers_alive", API: "apis_alive"}


@dataclass(slots=True)
class _Waiting:
    """What waits under one model's label."""

    items: int = 0
    tokens: int = 0
    bytes: int = 0
    oldest_s: list[float] = field(default_factory=lambda: [0.0] * len(LaneClass))
    rollup_lag_s: float = 0.0

    def add(self, reply: Sequence[Any]) -> None:
        """Take in what the script `gauges` says of a lane."""
        now_us, depth, *arrivals_us, recorded_ms = reply
        items, tokens, bytes_ = (max(0, int(value or 0)) for value in depth)
        self.items += items
        self.tokens += tokens
        self.bytes += bytes_
        for at, arrival_us in enumerate(arrivals_us):
            self.oldest_s[at] = max(self.oldest_s[at], _age_s(now_us, arrival_us))
        self.rollup_lag_s = max(self.rollup_lag_s, _age_s(now_us, recorded_ms * 1_000))


def models_in(catalog: Catalog | None) -> list[str]:
    """List the values that the label `model` can have."""
    if catalog is None:
        return [UNKNOWN_MODEL]
    return [*catalog.models, *(card.name for card in catalog.wildcards), UNKNOWN_MODEL]


async def pool_gauges(
    names: Names, line: Callable[[str], Line], *, slots_per_key: int
) -> list[Reading]:
    """Read what there is to read; `slots_per_key` is a key's when nobody uses it."""
    directory, lanes = line("directory"), line("metrics")
    readings: list[Reading] = []
    try:
        async with asyncio.timeout(PATIENCE_S):
            alive, announced, catalog = await _directory(directory, names)
            readings += _processes(alive)
            readings += await _keys(directory, names, catalog, slots_per_key)
            readings += _lanes(await _waiting(lanes, names, announced, models_in(catalog)))
    except (QueueUnavailable, TimeoutError):
        pass  # `redis_up` says it
    finally:
        await directory.close()
        await lanes.close()
    return readings


async def _directory(line: Line, names: Names) -> tuple[list[str], list[str], Catalog | None]:
    (seconds, micros), alive, lanes, blob = await line.call_all(
        [
            ("TIME",),
            ("ZRANGE", names.alive, 0, -1, "WITHSCORES"),
            ("XRANGE", names.lanes, "-", "+", "COUNT", MAX_LANES),
            ("HGET", names.catalog, "models"),
        ]
    )
    now_ms = int(seconds) * 1_000 + int(micros) // 1_000
    living = zip(alive[::2], alive[1::2], strict=True)
    return (
        [process.decode() for process, until_ms in living if float(until_ms) > now_ms],
        [fields[1].decode() for _, fields in lanes],
        _catalog(blob),
    )


def _catalog(blob: bytes | None) -> Catalog | None:
    try:
        return catalog_from(blob) if blob else None
    except MsgspecError:
        return None  # a newer worker's


def _processes(alive: Sequence[str]) -> Iterator[Reading]:
    for kind, name in _OF_PROCESSES.items():
        yield _reading(name, sum(process.startswith(kind) for process in alive))


async def _waiting(
    line: Line, names: Names, announced: Sequence[str], models: Sequence[str]
) -> dict[str, _Waiting]:
    waiting = {model: _Waiting() for model in models}
    calls = [(_parts(names, lane), ()) for lane in announced]
    replies = await line.run_all(script("gauges"), calls) if calls else []
    for lane, reply in zip(announced, replies, strict=True):
        if isinstance(reply, QueueUnavailable):
            raise reply
        waiting[lane if lane in waiting else UNKNOWN_MODEL].add(reply)
    return waiting


def _parts(names: Names, model: str) -> list[str]:
    lane = names.lane(model)
    return [lane.depth, *map(lane.stream, LaneClass), lane.ledger]


def _lanes(waiting: dict[str, _Waiting]) -> Iterator[Reading]:
    for model, lane in waiting.items():
        yield _reading("queue_items", lane.items, model)
        yield _reading("queue_tokens", lane.tokens, model)
        yield _reading("queue_bytes", lane.bytes, model)
        yield _reading("rollup_lag_seconds", lane.rollup_lag_s, model)
        for name, oldest_s in zip(CLASS.values, lane.oldest_s, strict=True):
            yield _reading("queue_oldest_seconds", oldest_s, model, name)


async def _keys(
    line: Line, names: Names, catalog: Catalog | None, slots_per_key: int
) -> list[Reading]:
    cards = catalog.keys if catalog else ()
    states = await read_keys(line, names, [card.id for card in cards]) if cards else []
    return [
        reading
        for card, state in zip(cards, states, strict=True)
        for reading in _key(card, state, slots_per_key)
    ]


def _key(card: KeyCard, state: KeyState, slots_per_key: int) -> Iterator[Reading]:
    key = (card.provider, card.id)
    for condition in KEY_STATE.values:
        yield _reading("key_state", state.condition.value == condition, *key, condition)
    yield _reading("key_in_flight", state.in_flight, *key)
    yield _reading("key_slots", state.slots or slots_per_key, *key)
    yield _reading("key_cooling_seconds", state.rests_for_s, *key)
    for name, ratio in _headroom(card, state):
        yield _reading("key_headroom_ratio", ratio, *key, name)


def _headroom(card: KeyCard, state: KeyState) -> Iterable[tuple[str, float]]:
    """Say how much of each limit is left; a key that nobody uses has all of it."""
    rows = (
        ("requests", state.rpm or card.rpm, state.used_requests),
        ("tokens", state.tpm or card.tpm, state.used_tokens),
    )
    for name, limit, used in rows:
        if limit:
            yield name, max(0.0, 1.0 - used / limit)


def _reading(name: str, value: float, *labels: str) -> Reading:
    return Reading(measure(name), labels, float(value))


def _age_s(now_us: int, then_us: int) -> float:
    return max(0.0, (now_us - then_us) / 1e6) if then_us else 0.0
