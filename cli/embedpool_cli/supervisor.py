"""Keeps processes running until told to stop, and then ends them in order.

Invariants
- Roles come up in order, each once the one before is up, and end in the opposite order.
- A process that ends by itself is replaced; first its role hears which one it was.
- One that refuses its configuration is not replaced: everything stops.
- After `run` no child is left.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from embedpool_cli.children import Child, Launch, end, how_it_ended
from embedpool_cli.restarts import pause_before_restart_s
from embedpool_cli.stopping import StopSignals

EXIT_STOPPED: Final = 0
EXIT_REFUSED: Final = 2
"""A process that cannot use its configuration says why and exits with this."""
EXIT_INTERRUPTED: Final = 130

LIVES_REMEMBERED: Final = 16

Say = Callable[[str], None]
Pause = Callable[[Sequence[float]], float]
"""Seconds until the next start, by how long earlier processes lived."""


async def _nothing(_: object) -> None:
    return


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """Processes of one kind."""

    name: str
    count: int
    launch: Callable[[], Launch]  # a fresh one for each start
    stop_patience_s: float
    last_patience_s: float = 0.0  # … when all must end at once
    until_up: Callable[[Child], Awaitable[None]] = _nothing  # before the next role starts
    on_death: Callable[[str], Awaitable[None]] = _nothing  # by process id


class _Refused(Exception):
    """A child cannot use its configuration."""


class Keeper:
    """Keeps one process of a role running."""

    def __init__(self, role: Role, say: Say, pause_s: Pause) -> None:
        """Start the first process."""
        self.child = Child(role.launch())
        self._role = role
        self._say = say
        self._pause_s = pause_s
        self._lives_s: deque[float] = deque(maxlen=LIVES_REMEMBERED)

    async def keep(self) -> None:
        """Replace the process whenever it ends; raises `_Refused`."""
        while True:
            code = await asyncio.shield(self.child.ended)
            if code == EXIT_REFUSED:
                raise _Refused
            self._lives_s.append(asyncio.get_running_loop().time() - self.child.started_at)
            self._say(f"{self._role.name} {how_it_ended(code)}; starting another")
            await self._role.on_death(self.child.launch.process_id)
            while not await self._is_replaced():
                self._lives_s.append(0.0)

    async def _is_replaced(self) -> bool:
        await asyncio.sleep(self._pause_s(self._lives_s))
        try:
            self.child = Child(self._role.launch())
        except OSError as error:
            self._say(f"{self._role.name} cannot be started now: {error.strerror}")
            return False
        return True


class Supervisor:
    """Runs roles."""

    def __init__(
        self, roles: Sequence[Role], *, say: Say, pause_s: Pause = pause_before_restart_s
    ) -> None:
        """Take roles in the order they come up."""
        self._pause_s = pause_s
        self._roles = roles
        self._say = say
        self._keepers: dict[str, list[Keeper]] = {role.name: [] for role in roles}

    async def run(
        self,
        signals: StopSignals,
        *,
        when_up: Callable[[], Awaitable[None]],
        before_stop: Callable[[], None],
    ) -> int:
        """Keep everything running until `signals` or a refusal; return the exit code.

        `when_up` runs beside the last role. Raises what it and the roles' own functions raise.
        """
        serving = asyncio.create_task(self._serve(when_up))
        asked = asyncio.create_task(signals.stop.wait())
        try:
            await asyncio.wait({serving, asked}, return_when=asyncio.FIRST_COMPLETED)
            was_refused = await _is_refused(serving)
        finally:
            asked.cancel()
            before_stop()
            was_hurried = await self._end_all(signals)
        if was_refused:
            return EXIT_REFUSED
        return EXIT_INTERRUPTED if was_hurried else EXIT_STOPPED

    async def _serve(self, when_up: Callable[[], Awaitable[None]]) -> None:
        async with asyncio.TaskGroup() as tasks:
            for role in self._roles:
                keepers = self._keepers[role.name]
                for _ in range(role.count):
                    keepers.append(Keeper(role, self._say, self._pause_s))
                await role.until_up(keepers[0].child)
                for keeper in keepers:
                    tasks.create_task(keeper.keep())
            await when_up()

    async def _end_all(self, signals: StopSignals) -> bool:
        """End every child; True if a second Ctrl-C cut it short."""
        orderly = asyncio.create_task(self._end_in_order())
        hurried = asyncio.create_task(signals.at_once.wait())
        await asyncio.wait({orderly, hurried}, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if orderly.done():
            orderly.result()
            return False
        orderly.cancel()
        for role in reversed(self._roles):
            await end(self._children(role), patience_s=role.last_patience_s)
        return True

    async def _end_in_order(self) -> None:
        for role in reversed(self._roles):
            await end(self._children(role), patience_s=role.stop_patience_s)

    def _children(self, role: Role) -> list[Child]:
        return [keeper.child for keeper in self._keepers[role.name]]


async def _is_refused(serving: asyncio.Task[None]) -> bool:
    """Stop what still serves; say whether it ended by a refusal, raise what else ended it."""
    serving.cancel()
    try:
        with suppress(asyncio.CancelledError):
            await serving
    except ExceptionGroup as failures:
        others = failures.split(_Refused)[1]
        if others is not None:
            raise others.exceptions[0] from None
        return True
    return False
