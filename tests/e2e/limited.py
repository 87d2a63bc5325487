"""Callers of a provider whose keys have limits: through a pool, and past it one text per call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

import httpx

from e2e.asking import Answer, Caller, asked, callers
from e2e.models import openai_entry
from embedpool_shared import tokens
from support.fake_provider import FakeProvider
from support.faults import Behaviour
from support.key_minutes import fullest_minute
from support.vectors import Input, vector_of

MODEL: Final = "limited"
UPSTREAM: Final = "text-embedding-3-small"
DIMS: Final = 48
_ENCODING: Final = "cl100k_base"


def exactly(given: Input) -> int:
    """Count tokens as OpenAI does."""
    return tokens.count(_ENCODING, given) if isinstance(given, str) else len(given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a provider allows each of these keys in a minute."""

    keys: tuple[str, ...]
    rpm: int | None = None
    tpm: int | None = None

    def entry(self, fake: FakeProvider) -> dict[str, Any]:
        """Write the entry of `model_list` that says so."""
        listed = openai_entry(MODEL, fake, *self.keys, output_dimensions=DIMS)
        limits = {"rpm": self.rpm, "tpm": self.tpm}
        listed["litellm_params"] |= {name: most for name, most in limits.items() if most}
        return listed

    def hold(self, fake: FakeProvider) -> None:
        """Have a provider hold its callers to it."""
        fake.behave(Behaviour(rpm=self.rpm, tpm=self.tpm))


@dataclass(slots=True)
class Crowd:
    """Callers of one text at a time, and how they fared."""

    text_tokens: int
    headers: Mapping[str, str] = field(default_factory=dict)
    answered: int = 0
    wrong: int = 0
    refused: list[Answer] = field(default_factory=list)
    slowest_s: float = 0.0

    async def ask(self, url: str, *, callers_count: int, seconds: float) -> None:
        """Ask for one text after the other on so many connections for so long."""
        ends_at = time.monotonic() + seconds
        numbers = count()

        async def keep_asking(caller: Caller) -> None:
            while time.monotonic() < ends_at:
                text = text_of(next(numbers), self.text_tokens)
                self._take(text, await caller.ask(asked(MODEL, text), self.headers))

        async with callers(callers_count, url) as connected, asyncio.TaskGroup() as tasks:
            for caller in connected:
                tasks.create_task(keep_asking(caller))

    def _take(self, text: str, answer: Answer) -> None:
        self.slowest_s = max(self.slowest_s, answer.took_s)
        if answer.status != 200:
            self.refused.append(answer)
        elif answer.vectors == [vector_of(text, DIMS, UPSTREAM)]:
            self.answered += 1
        else:
            self.wrong += 1


def text_of(number: int, text_tokens: int) -> str:
    """Write a text of about so many tokens, unlike that of any other number."""
    return f"number {number}" + " word" * max(0, text_tokens - 3)


async def one_text_per_call(
    fake: FakeProvider, keys: tuple[str, ...], *, callers_count: int, seconds: float
) -> int:
    """Work past the pool, waiting exactly as long as a 429 says; returns the texts embedded."""
    ends_at = time.monotonic() + seconds
    answered = 0

    async def keep_asking(client: httpx.AsyncClient, number: int) -> None:
        nonlocal answered
        headers = {"authorization": f"Bearer {keys[number % len(keys)]}"}
        body = {"model": UPSTREAM, "input": f"text of caller {number}"}
        while (left_s := ends_at - time.monotonic()) > 0:
            answer = await client.post("/v1/embeddings", json=body, headers=headers)
            if answer.status_code == 200:
                answered += 1
            else:
                await asyncio.sleep(min(left_s, float(answer.headers["retry-after"])))

    async with (
        httpx.AsyncClient(base_url=fake.url, trust_env=False, timeout=30) as client,
        asyncio.TaskGroup() as tasks,
    ):
        for number in range(callers_count):
            tasks.create_task(keep_asking(client, number))
    return answered


def fullest_of(fake: FakeProvider, key: str) -> tuple[int, int]:
    """The most calls and tokens of a key in any sliding minute of the provider's clock."""
    return fullest_minute((call.at, call.tokens) for call in fake.calls if call.key == key)
