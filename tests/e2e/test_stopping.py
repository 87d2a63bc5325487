"""However `embedpool serve` ends, nothing of it stays behind."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable

import pytest

from e2e.asking import asked, callers
from e2e.load import until
from e2e.models import openai_entry
from e2e.pools import Pool, serving
from support.fake_provider import FakeProvider
from support.faults import Behaviour, Ending
from support.processes import Program, group_members, wait_until


def ctrl_c(program: Program) -> None:
    """What a terminal does: every process of the group gets the signal."""
    os.killpg(program.pid, signal.SIGINT)


def sigterm(program: Program) -> None:
    program.signal(signal.SIGTERM)


def nothing_is_left(pool: Pool) -> None:
    """No process, no socket, nobody who listens."""
    assert group_members(pool.program.pid) == []
    assert not (pool.data_directory / "valkey.sock").exists()
    with socket.socket() as probe:
        address = pool.url.removeprefix("http://").split(":")
        assert probe.connect_ex((address[0], int(address[1]))) != 0


@pytest.mark.parametrize("end", [ctrl_c, sigterm])
def test_an_idle_pool_ends_within_five_seconds(end: Callable[[Program], None]) -> None:
    with serving() as pool:
        asked_at = time.monotonic()
        end(pool.program)

        assert pool.program.wait(patience_s=10) == 0
        assert time.monotonic() - asked_at < 5
        nothing_is_left(pool)
        assert "Traceback" not in pool.program.output


async def test_a_busy_pool_ends_within_five_seconds_and_answers_whom_it_can() -> None:
    with FakeProvider.in_thread() as fake:
        fake.behave(
            Behaviour(containing="never", ending=Ending.HANG),
            Behaviour(containing="soon", latency_s=0.5),
        )
        config = {"model_list": [openai_entry("m", fake)]}
        with serving("--workers", "2", config=config) as pool:
            async with callers(2, pool.url) as (patient, quick):
                patient.send(asked("m", "never answered"))
                await until(lambda: fake.totals.calls == 1, "a call that hangs")
                quick.send(asked("m", "soon answered"))
                await until(lambda: fake.totals.calls == 2, "a call that takes a moment")
                asked_at = time.monotonic()
                ctrl_c(pool.program)
                status, _, _ = await quick.receive()

            assert pool.program.wait(patience_s=10) == 0
            assert time.monotonic() - asked_at < 5
            assert status == 200
            nothing_is_left(pool)


def test_killing_serve_leaves_no_orphan() -> None:
    with serving("--workers", "2") as pool:
        assert len(pool.workers()) == 2
        pool.program.signal(signal.SIGKILL)
        pool.program.wait()

        group = pool.program.pid
        wait_until(lambda: not group_members(group), patience_s=5, what="the end of every child")
