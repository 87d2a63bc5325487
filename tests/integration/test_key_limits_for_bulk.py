"""Bulk takes nearly all of a key's limits and never what an interactive call would wait for.

As in `test_key_limits`, the arithmetic is the script's, under a clock of the test's own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from embedpool_shared.provider_keys import GRAIN_MS, WINDOW_MS
from embedpool_worker.headroom import ASK_AGAIN_S
from support.key_clock import KeyAtWill, Leased

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from support.valkey import RedisServer

MINUTE_MS = 60_000
ASK_AGAIN_MS = round(1_000 * ASK_AGAIN_S)
Limits = dict[str, int]


@pytest.fixture
def client(valkey: RedisServer) -> Iterator[redis.Redis]:
    with valkey.client() as client:
        yield client


@dataclass
class Crowd:
    """Callers of one class: they ask as a worker does, or so much after their last call."""

    key: KeyAtWill
    is_bulk: bool
    tokens: int = 0
    every_ms: int = 0
    next_at: int = 0
    asked_at: int | None = None
    granted_at: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    slowest_ms: int = 0

    def turn(self) -> None:
        """Ask if it is time."""
        now = self.key.now_ms
        if now < self.next_at:
            return
        self.asked_at = now if self.asked_at is None else self.asked_at
        leased = self.key.lease(
            tokens=self.tokens, least=min(self.tokens, 300), is_bulk=self.is_bulk
        )
        if leased.requests:
            self._take(leased)
            self.slowest_ms = max(self.slowest_ms, now - self.asked_at)
            self.asked_at, self.next_at = None, now + self.every_ms
        else:
            self.next_at = now + min(leased.wait_ms, ASK_AGAIN_MS)

    def _take(self, leased: Leased) -> None:
        self.granted_at += [self.key.now_ms] * leased.requests
        self.sizes.append(leased.tokens)


def together(key: KeyAtWill, *crowds: Crowd, minutes: int = 3) -> None:
    """Let all of them call for so long."""
    end = key.now_ms + minutes * MINUTE_MS
    while key.now_ms < end:
        for crowd in crowds:
            crowd.turn()
        key.now_ms = max(key.now_ms + 1, min(crowd.next_at for crowd in crowds))


@pytest.mark.parametrize(
    ("limits", "every_ms"),
    [
        ({"rpm": 60}, 15_000),
        ({"rpm": 600}, 1_000),
        ({"rpm": 600, "tpm": 200_000}, 1_000),
    ],
    ids=str,
)
@pytest.mark.parametrize("tokens", [300, 200_000], ids=["few tokens a call", "many"])
def test_an_interactive_call_finds_room_at_once_while_bulk_takes_all_it_gets(
    client: redis.Redis, limits: Limits, every_ms: int, tokens: int
) -> None:
    key = KeyAtWill(client, **limits)
    bulk = Crowd(key, is_bulk=True, tokens=tokens)
    interactive = Crowd(key, is_bulk=False, tokens=10, every_ms=every_ms)

    together(key, bulk, interactive)

    assert interactive.slowest_ms <= 1
    assert len(interactive.granted_at) >= 3 * MINUTE_MS // every_ms - 1


@pytest.mark.parametrize("rpm", [60, 600])
def test_bulk_uses_nearly_all_that_is_left_of_a_request_limit(
    client: redis.Redis, rpm: int
) -> None:
    key = KeyAtWill(client, rpm=rpm)
    bulk = Crowd(key, is_bulk=True)
    interactive = Crowd(key, is_bulk=False, every_ms=10 * MINUTE_MS // rpm)

    together(key, bulk, interactive)

    left = 3 * rpm - len(interactive.granted_at)
    assert len(bulk.granted_at) >= 0.95 * left


@pytest.mark.parametrize("tokens", [300, 2_000, 200_000])
def test_bulk_alone_uses_nearly_all_of_a_token_limit(client: redis.Redis, tokens: int) -> None:
    key = KeyAtWill(client, rpm=6_000, tpm=200_000)
    bulk = Crowd(key, is_bulk=True, tokens=tokens)

    together(key, bulk)

    assert sum(bulk.sizes) >= 0.96 * 3 * 200_000


@pytest.mark.parametrize("rpm", [3, 60, 600])
def test_bulk_gets_some_of_the_calls_though_interactive_callers_want_all(
    client: redis.Redis, rpm: int
) -> None:
    key = KeyAtWill(client, rpm=rpm)
    bulk, interactive = Crowd(key, is_bulk=True), Crowd(key, is_bulk=False)

    together(key, bulk, interactive)

    share = len(bulk.granted_at) / (len(bulk.granted_at) + len(interactive.granted_at))
    assert 0.05 <= share <= 0.5


def test_bulk_may_send_what_is_as_large_as_the_limit_again_and_again(client: redis.Redis) -> None:
    key = KeyAtWill(client, tpm=1_000)

    for _ in range(3):
        assert key.lease(tokens=1_000, least=1_000, is_bulk=True).tokens == 1_000
        key.now_ms += WINDOW_MS + GRAIN_MS


def test_bulk_may_use_the_smallest_limit(client: redis.Redis) -> None:
    assert KeyAtWill(client, rpm=1).lease(is_bulk=True).requests == 1
