from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from embedpool_cli.children import Child, Launch, child_command, end, how_it_ended
from support.processes import wait_until
from unit.cli.stories import Story

ENVIRON = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def launch(*command: str) -> Launch:
    return Launch(process_id="x", command=command, environ=ENVIRON)


async def test_a_childs_end_is_its_exit_code() -> None:
    child = Child(launch("sh", "-c", "exit 3"))

    assert await child.ended == 3
    assert not child.is_running


async def test_a_killed_childs_end_is_the_signal() -> None:
    child = Child(launch("sleep", "60"))

    child.signal(signal.SIGKILL)

    assert await child.ended == -signal.SIGKILL


async def test_a_signal_to_one_that_has_ended_is_nothing() -> None:
    child = Child(launch("true"))
    await child.ended

    child.signal(signal.SIGKILL)

    assert child.ended.result() == 0


async def test_a_child_stays_in_our_process_group() -> None:
    child = Child(launch("sleep", "60"))

    assert os.getpgid(child.pid) == os.getpgid(0)

    await end([child], patience_s=5)


async def test_ctrl_c_and_a_hang_up_do_not_reach_a_child_whatever_it_installs() -> None:
    async with Story() as story:
        child = Child(story.teller("x", "SIGINT", "SIGHUP", "SIGTERM")())
        await story.pid_of("x")

        child.signal(signal.SIGINT)
        child.signal(signal.SIGHUP)
        child.signal(signal.SIGTERM)

        assert await story.line() == "x SIGTERM"
        await child.ended


async def test_starting_a_child_leaves_our_own_signals_alone() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])

    child = Child(launch("true"))

    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
    await child.ended


async def test_a_program_that_cannot_be_started_is_an_error_at_once() -> None:
    with pytest.raises(OSError, match="no/such/program"):
        Child(launch("/no/such/program"))


async def test_children_asked_to_end_may_do_so_in_their_own_way() -> None:
    async with Story() as story:
        child = Child(story.teller("x", "SIGTERM")())
        await story.pid_of("x")

        await end([child], patience_s=20)

        assert child.ended.result() == 0
        assert await story.line() == "x SIGTERM"


async def test_children_that_will_not_end_are_killed() -> None:
    async with Story() as story:
        # It ignores nothing but tells of SIGTERM only by staying: the signal is blocked.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        child = Child(story.teller("x")())
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        await story.pid_of("x")

        await end([child], patience_s=0.05)

        assert child.ended.result() == -signal.SIGKILL


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "exited with 0"), (1, "exited with 1"), (-9, "was ended by SIGKILL"),
     (-40, "was ended by signal 40")],
)  # fmt: skip
def test_an_end_is_put_into_words(code: int, words: str) -> None:
    assert how_it_ended(code) == words


@pytest.mark.parametrize("role", ["worker", "api"])
def test_a_command_line_shows_what_the_process_is(role: str) -> None:
    assert f"embedpool {role} --id x" in " ".join(child_command("embedpool", role, "--id", "x"))


async def test_embedpool_runs_as_our_child_wherever_it_comes_from(tmp_path: Path) -> None:
    told = tmp_path / "told"
    version = child_command("embedpool", "--version")
    command = ("sh", "-c", 'exec "$@" >"$0"', str(told), *version)

    child = Child(launch(*command))

    assert await child.ended == 0
    assert told.read_text().startswith("embedpool ")


async def test_another_program_takes_the_childs_place() -> None:
    child = Child(launch(*child_command("/bin/sh", "-c", "exit 7")))

    assert await child.ended == 7


async def test_a_program_that_is_not_there_ends_the_child_with_1() -> None:
    child = Child(launch(*child_command("/no/such/program")))

    assert await child.ended == 1


async def test_a_child_whose_supervisor_is_gone_already_does_not_begin() -> None:
    ours = child_command("/bin/sh", "-c", "exit 7")
    not_our_pid = ("1" if part == str(os.getpid()) else part for part in ours)

    child = Child(launch(*not_our_pid))

    assert await child.ended == 1


def test_no_child_outlives_a_supervisor_that_was_killed() -> None:
    supervisor = (
        "import asyncio, os\n"
        "from embedpool_cli.children import Child, Launch, child_command\n"
        "async def main():\n"
        "    sleep = child_command('/bin/sleep', '60')\n"
        "    child = Child(Launch(process_id='x', command=sleep, environ=os.environ))\n"
        "    print(child.pid, flush=True)\n"
        "    await child.ended\n"
        "asyncio.run(main())\n"
    )
    popen = subprocess.Popen(
        [sys.executable, "-c", supervisor], env=ENVIRON, stdout=subprocess.PIPE
    )
    assert popen.stdout is not None
    with popen.stdout as said:
        child = Path(f"/proc/{int(said.readline())}/cmdline")
    wait_until(lambda: child.read_bytes() == b"/bin/sleep\x0060\x00", patience_s=20, what="sleep")

    popen.kill()
    popen.wait()

    wait_until(lambda: is_gone(child), patience_s=20, what="the child's end")


def is_gone(cmdline: Path) -> bool:
    # A zombie that nobody reaps here still has a pid, but no command line.
    return not cmdline.exists() or cmdline.read_bytes() == b""
