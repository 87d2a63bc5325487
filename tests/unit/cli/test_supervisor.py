from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from embedpool_cli.children import Child, Launch
from embedpool_cli.stopping import StopSignals
from embedpool_cli.supervisor import Role, Supervisor
from embedpool_shared.errors import ConfigInvalid
from unit.cli.stories import Story


def role(name: str, launch: Callable[[], Launch], **options: object) -> Role:
    plain = Role(name=name, count=1, launch=launch, stop_patience_s=20)
    return replace(plain, **options)  # type: ignore[arg-type]


class Run:
    """A supervisor at work on the test's loop."""

    def __init__(self, roles: Sequence[Role]) -> None:
        self.signals = StopSignals()
        self.said: list[str] = []
        self.is_up = asyncio.Event()
        self.is_stopping = asyncio.Event()
        self.lives_s: list[float] = []
        supervisor = Supervisor(roles, say=self.said.append, pause_s=self._no_pause)
        self.task = asyncio.create_task(
            supervisor.run(
                self.signals,
                when_up=self._come_up,
                before_stop=self.is_stopping.set,
            )
        )

    def _no_pause(self, lives_s: Sequence[float]) -> float:
        self.lives_s = list(lives_s)
        return 0.0

    async def _come_up(self) -> None:
        self.is_up.set()

    async def code(self) -> int:
        async with asyncio.timeout(20):
            return await self.task


@asynccontextmanager
async def running(*roles: Role) -> AsyncIterator[Run]:
    run = Run(roles)
    try:
        yield run
    finally:
        run.signals.stop.set()
        run.signals.at_once.set()
        await asyncio.wait({run.task})


async def test_a_process_that_dies_is_replaced_and_its_role_told_which_it_was() -> None:
    dead: list[str] = []

    async def on_death(process_id: str) -> None:
        dead.append(process_id)

    async with Story() as story:
        worker = role("worker", story.teller("worker", "SIGTERM"), on_death=on_death)
        async with running(worker) as run:
            first = await story.pid_of("worker")
            os.kill(first, signal.SIGKILL)
            second = await story.pid_of("worker")

            assert second != first
            assert dead == ["worker-0"]
            assert "worker was ended by SIGKILL" in run.said[0]


async def test_the_role_hears_of_a_death_before_the_next_process_starts() -> None:
    order: list[str] = []

    async def on_death(process_id: str) -> None:
        for _ in range(20):
            await asyncio.sleep(0)
        order.append(f"{process_id} handed over")

    async with Story() as story:
        teller = story.teller("worker", "SIGTERM")

        def launch() -> Launch:
            fresh = teller()
            order.append(fresh.process_id)
            return fresh

        async with running(role("worker", launch, on_death=on_death)):
            os.kill(await story.pid_of("worker"), signal.SIGKILL)
            await story.pid_of("worker")

    assert order == ["worker-0", "worker-0 handed over", "worker-1"]


async def test_as_many_processes_run_as_the_role_wants() -> None:
    async with Story() as story:
        async with running(role("w", story.teller("w", "SIGTERM"), count=3)) as run:
            pids = {await story.pid_of("w") for _ in range(3)}
            run.signals.stop.set()
            await run.code()

        assert len(pids) == 3
        assert await story.rest() == ["w SIGTERM"] * 3


async def test_a_role_comes_up_only_once_the_one_before_it_is_up() -> None:
    is_store_up = asyncio.Event()

    async def until_up(_: Child) -> None:
        await is_store_up.wait()

    async with Story() as story:
        store = role("store", story.teller("store", "SIGTERM"), until_up=until_up)
        async with running(store, role("api", story.teller("api", "SIGTERM"))) as run:
            await story.pid_of("store")
            assert not run.is_up.is_set()

            is_store_up.set()

            await story.pid_of("api")
            await run.is_up.wait()


async def test_a_clean_stop_ends_the_roles_one_after_the_other_last_one_first() -> None:
    async with Story() as story:
        roles = [role(name, story.teller(name, "SIGTERM")) for name in ("store", "worker", "api")]
        async with running(*roles) as run:
            for _ in roles:
                await story.line()

            run.signals.stop.set()

            assert await run.code() == 0
            assert run.is_stopping.is_set()
        assert await story.rest() == ["api SIGTERM", "worker SIGTERM", "store SIGTERM"]


async def test_a_process_that_ends_because_it_was_asked_to_is_not_replaced() -> None:
    async with Story() as story:
        async with running(role("api", story.teller("api", "SIGTERM"))) as run:
            await story.pid_of("api")
            run.signals.stop.set()

            await run.code()

            assert run.said == []
        assert await story.rest() == ["api SIGTERM"]


async def test_a_process_that_does_not_end_in_time_is_killed() -> None:
    async with Story() as story:
        deaf = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        tell = f"import os, time\nos.write({story.fd}, b'x up 1\\n')\ntime.sleep(600)\n"
        async with running(role("x", story.python("x", deaf + tell), stop_patience_s=0.05)) as run:
            await story.line()
            run.signals.stop.set()

            assert await run.code() == 0


async def test_a_process_that_refuses_its_configuration_stops_everything() -> None:
    async with Story() as story:
        worker = role("worker", story.teller("worker", "SIGTERM"))
        waiting = "import os, sys\nos.read(int(sys.argv[1]), 1)\nsys.exit(2)\n"
        gate_read, gate = os.pipe()
        start = story.python("api", waiting, str(gate_read))
        refusing = role("api", lambda: replace(start(), fds=(gate_read,)))
        async with running(worker, refusing) as run:
            await story.pid_of("worker")
            os.write(gate, b".")

            assert await run.code() == 2
            assert run.said == []
        os.close(gate_read)
        os.close(gate)
        assert await story.rest() == ["worker SIGTERM"]


async def test_a_store_that_does_not_come_up_is_the_reason_given_and_nothing_stays() -> None:
    async def until_up(_: Child) -> None:
        raise ConfigInvalid("the store does not start")

    async with Story() as story:
        store = role("store", story.teller("store"), until_up=until_up)
        async with running(store) as run:
            with pytest.raises(ConfigInvalid, match="does not start"):
                await run.code()
        # The pipe has ended: no process holds its other end any more.
        assert all("up" in told for told in await story.rest())


async def test_a_second_ctrl_c_ends_everything_at_once() -> None:
    async with Story() as story:
        deaf = "import os, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        tell = f"os.write({story.fd}, b'x up 1\\n')\ntime.sleep(600)\n"
        store = role("store", story.teller("store", "SIGTERM"), last_patience_s=20.0)
        stuck = role("x", story.python("x", deaf + tell), stop_patience_s=600.0)
        async with running(store, stuck) as run:
            assert sorted([(await story.line())[:2], (await story.line())[:2]]) == ["st", "x "]
            run.signals.stop.set()
            await run.is_stopping.wait()
            run.signals.at_once.set()

            assert await run.code() == 130
        assert await story.rest() == ["store SIGTERM"]


async def test_a_stop_while_a_role_comes_up_ends_what_there_is() -> None:
    async def never(_: Child) -> None:
        await asyncio.Event().wait()

    async with Story() as story:
        async with running(role("s", story.teller("s", "SIGTERM"), until_up=never)) as run:
            await story.pid_of("s")
            run.signals.stop.set()

            assert await run.code() == 0
        assert await story.rest() == ["s SIGTERM"]


async def test_a_replacement_that_cannot_be_started_is_tried_again() -> None:
    async with Story() as story:
        teller = story.teller("w", "SIGTERM")
        is_full = False

        def launch() -> Launch:
            nonlocal is_full
            if is_full:
                is_full = False
                raise BlockingIOError(11, "no more processes")
            return teller()

        async with running(role("w", launch)) as run:
            first = await story.pid_of("w")
            is_full = True
            os.kill(first, signal.SIGKILL)

            assert await story.pid_of("w") != first
            assert "no more processes" in run.said[1]
            # A start that failed counts as the shortest of lives.
            assert run.lives_s[1:] == [0.0]
