"""The game day's pools, the traffic that all of them have, and how each of them is broken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import Final, Self

import httpx

from e2e.asking import EMBEDDINGS, asked
from e2e.keys import MASTER, SHORT_DIMS, bearer, guarded, short_entry
from e2e.pools import Fleet, short_directory
from embedpool_shared.measures import Role
from support.background import in_background
from support.fake_provider import FakeProvider
from support.faults import Behaviour
from support.ports import free_port
from support.processes import Program
from support.prometheus import Ports
from support.valkey import RedisServer

TOKEN: Final = "a-token-for-scraping"
MODEL: Final = "m"
PROVIDER: Final = "openai"
KEYS: Final = tuple(f"sk-0123456789abcdef-key-{letter}" for letter in "abc")
WORKERS: Final = 2
ITEMS_PER_CALL: Final = 8
EVERY_S: Final = 0.25
"""How often somebody asks each pool for something, all day."""
Subject = Mapping[str, str]
"""What a fault is about, as labels."""


@dataclass(frozen=True, slots=True)
class Flow:
    """Callers who ask a pool for so many texts so often, whatever the answers."""

    url: str
    key: str = MASTER
    every_s: float = EVERY_S
    texts: int = 1


class Callers:
    """All callers of the day, on a loop of their own; a slow answer delays no other request."""

    def __init__(self) -> None:
        self._client = httpx.AsyncClient(
            trust_env=False, timeout=60, limits=httpx.Limits(max_connections=None)
        )
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in (tasks := list(self._tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.aclose()

    def begin(self, flow: Flow) -> None:
        """Let another flow begin; from any thread."""
        self._loop.call_soon_threadsafe(self._spawn, flow)

    def _spawn(self, flow: Flow, number: int | None = None) -> None:
        asking = self._flow(flow) if number is None else self._ask(flow, number)
        task = self._loop.create_task(asking)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _flow(self, flow: Flow) -> None:
        for number in count():
            self._spawn(flow, number)
            await asyncio.sleep(flow.every_s)

    async def _ask(self, flow: Flow, number: int) -> None:
        body = asked(MODEL, [f"text {number} {at}" for at in range(flow.texts)])
        with suppress(httpx.HTTPError):
            await self._client.post(f"{flow.url}{EMBEDDINGS}", json=body, headers=bearer(flow.key))


@dataclass(frozen=True, slots=True)
class Place:
    """One pool: all its processes, which nobody supervises, and its provider."""

    redis: RedisServer
    fake: FakeProvider
    url: str
    workers: list[Program]
    ports: Ports
    callers: Callers

    def key_in_use(self) -> str:
        """Find the secret with which the provider was called last."""
        key = self.fake.calls[-1].key
        assert key in KEYS
        return key

    def key_id(self, secret: str) -> str:
        """Say under which id the pool knows a key of its provider."""
        answer = httpx.get(f"{self.url}/pool/keys", headers=bearer(MASTER), trust_env=False)
        (found,) = [it for it in answer.json()["keys"] if it["key"].endswith(secret[-4:])]
        return str(found["id"])


@contextmanager
def place(callers: Callers) -> Iterator[Place]:
    """Run a pool with the day's usual traffic."""
    with ExitStack() as opened:
        redis = opened.enter_context(RedisServer())
        fake = opened.enter_context(FakeProvider.in_thread(dims=SHORT_DIMS, latency_s=0.05))
        directory = opened.enter_context(short_directory())
        model = short_entry(MODEL, fake, *KEYS, max_items_per_call=ITEMS_PER_CALL)
        config = guarded(fake, model, metrics={"token": TOKEN})
        fleet = opened.enter_context(Fleet(redis.url, directory, config=config))
        ports = {Role.API: [free_port()], Role.WORKER: [free_port() for _ in range(WORKERS)]}
        api = fleet.api(env=_served_at(Role.API, ports[Role.API][0]))
        workers = [
            fleet.worker(f"worker-{number}", env=_served_at(Role.WORKER, port))
            for number, port in enumerate(ports[Role.WORKER])
        ]
        fleet.wait_until_served(api)
        callers.begin(Flow(fleet.url))
        yield Place(redis, fake, fleet.url, workers, ports, callers)


def _served_at(role: Role, port: int) -> dict[str, str]:
    return {f"EMBEDPOOL_METRICS_{role.name}_PORT": str(port)}


def _one_worker_dies(at: Place) -> Subject:
    at.workers[0].kill()
    return {}


def _all_workers_die(at: Place) -> Subject:
    for worker in at.workers:
        worker.kill()
    return {}


def _a_key_is_throttled(at: Place) -> Subject:
    key = at.key_in_use()
    at.fake.behave(Behaviour(key=key, status=429, headers={"retry-after": "300"}))
    return {"provider": PROVIDER, "key": at.key_id(key)}


def _a_key_is_rejected(at: Place) -> Subject:
    key = at.key_in_use()
    at.fake.behave(Behaviour(key=key, status=401))
    return {"provider": PROVIDER, "key": at.key_id(key)}


def _the_provider_slows_down(at: Place) -> Subject:
    at.fake.behave(Behaviour(latency_s=3.0))
    return {"provider": PROVIDER}


def _more_comes_than_goes(at: Place) -> Subject:
    # 24 slots of 8 items each every two seconds are fewer than what is asked for.
    at.fake.behave(Behaviour(latency_s=2.0))
    at.callers.begin(Flow(at.url, every_s=0.25, texts=64))
    return {"model": MODEL}


def _redis_dies(at: Place) -> Subject:
    at.redis.kill()
    return {"role": Role.API}


def _somebody_guesses_keys(at: Place) -> Subject:
    at.callers.begin(Flow(at.url, key="a-guess", every_s=0.05))
    return {"reason": "auth"}


INJECTIONS: Final[Mapping[str, Callable[[Place], Subject]]] = {
    "a worker dead": _one_worker_dies,
    "all workers dead": _all_workers_die,
    "a key cooling": _a_key_is_throttled,
    "a key retired": _a_key_is_rejected,
    "a provider slow": _the_provider_slows_down,
    "the queue growing": _more_comes_than_goes,
    "Redis away": _redis_dies,
    "an admission flood": _somebody_guesses_keys,
}
"""How each fault of `faults.FAULTS` comes about, and what it is about."""


def callers_of_the_day() -> AbstractContextManager[Callers]:
    """Call the callers, who ask for nothing until they are told."""
    return in_background(Callers)
