"""A Redis line that remembers what it was told and answers as the test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from embedpool_shared.errors import QueueUnavailable
from embedpool_shared.redis import RedisRefused

if TYPE_CHECKING:
    from embedpool_shared.redis_wire import Heard
    from embedpool_shared.scripts import Script

AWAY = QueueUnavailable("Redis is not reachable", retry_after_s=1.0)


@dataclass
class Told:
    """One command, or one script with its keys and arguments."""

    at: float
    what: str  # the command, or the script's first words
    keys: list[str]
    arguments: list[Any]


@dataclass
class FakeLine:
    """Answers with `answer(told)`, awaited if need be, after `takes_s`; an exception is raised.

    While `is_away` every command fails without reaching Redis; `loses_replies` lets the next so
    many take effect and then fails, `breaks_after_hearing` lets the next replies be heard before.
    """

    answer: Callable[[Told], Any] = lambda _: None
    takes_s: float = 0.0
    is_away: bool = False
    loses_replies: int = 0
    breaks_after_hearing: int = 0
    told: list[Told] = field(default_factory=list)
    is_closed: bool = False

    async def call(self, *command: Any, patience_s: float = 5.0, heard: Heard | None = None) -> Any:
        (reply,) = await self.call_all([command], patience_s=patience_s, heard=heard)
        return reply

    async def call_all(
        self,
        commands: Sequence[tuple[Any, ...]],
        *,
        patience_s: float = 5.0,
        heard: Heard | None = None,
    ) -> list[Any]:
        del patience_s
        replies = [
            await self._exchange(Told(_now(), str(command), [], list(arguments)))
            for command, *arguments in commands
        ]
        if heard is not None:
            heard(replies)
        return replies

    async def run(
        self,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[Any],
        *,
        patience_s: float = 5.0,
    ) -> Any:
        del patience_s
        return await self._exchange(Told(_now(), script.name, list(keys), list(arguments)))

    async def run_all(
        self,
        script: Script,
        calls: Sequence[tuple[Sequence[str], Sequence[Any]]],
        *,
        patience_s: float = 5.0,
        heard: Heard | None = None,
    ) -> list[Any]:
        replies: list[Any] = []
        for keys, arguments in calls:
            try:
                replies.append(await self.run(script, keys, arguments, patience_s=patience_s))
            except RedisRefused as refused:
                replies.append(refused)
        if heard is not None and not any(isinstance(reply, Exception) for reply in replies):
            heard(replies)
            if self.breaks_after_hearing:
                self.breaks_after_hearing -= 1
                raise AWAY
        return replies

    async def close(self) -> None:
        self.is_closed = True

    async def _exchange(self, told: Told) -> Any:
        if self.is_away:
            await asyncio.sleep(0)
            raise AWAY
        self.told.append(told)
        await asyncio.sleep(self.takes_s)
        answer = self.answer(told)
        if isawaitable(answer):
            answer = await answer
        if isinstance(answer, Exception):
            raise answer
        if self.loses_replies:
            self.loses_replies -= 1
            raise AWAY
        return answer

    def told_of(self, what: str) -> list[Told]:
        """All commands or scripts of one name."""
        return [told for told in self.told if told.what == what]


def _now() -> float:
    return asyncio.get_running_loop().time()
