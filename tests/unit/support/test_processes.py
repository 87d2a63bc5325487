"""Child programs are watched, found and ended, and none outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.orphans import dying_with_us
from support.processes import NotInTime, Program, wait_until

PARENT = (
    "import subprocess, sys, time\n"
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)', 'embedpool worker'])\n"
    "print('ready http://127.0.0.1:1', flush=True)\n"
    "time.sleep(60)\n"
)


def program(code: str, tmp_path: Path) -> Program:
    return Program([sys.executable, "-c", code], log=tmp_path / "log", env={})


def test_a_line_is_waited_for_and_children_are_found(tmp_path: Path) -> None:
    with program(PARENT, tmp_path) as parent:
        assert parent.wait_for_line("http://") == "ready http://127.0.0.1:1"

        # The child is there before its new command line is.
        parent.wait_until(
            lambda: bool(parent.members("embedpool worker")), patience_s=5, what="a worker"
        )
        workers = [one for one in parent.members("embedpool worker") if one.pid != parent.pid]
        assert len(workers) == 1
    wait_until(lambda: not parent.members(), patience_s=5, what="the end of the group")


def test_a_program_that_ends_early_is_not_waited_for(tmp_path: Path) -> None:
    with (
        program("raise SystemExit('broken')", tmp_path) as early,
        pytest.raises(NotInTime, match="broken"),
    ):
        early.wait_for_line("ready")


def test_stopping_returns_the_exit_code(tmp_path: Path) -> None:
    code = (
        "import signal\n"
        "signal.signal(signal.SIGINT, lambda *_: exit(7))\n"
        "print('ready', flush=True)\n"
        "signal.pause()\n"
    )
    with program(code, tmp_path) as polite:
        polite.wait_for_line("ready")

        assert polite.stop(patience_s=5) == 7


def test_a_child_dies_with_its_parent() -> None:
    support = str(Path(__file__).parents[2])
    code = (
        f"import subprocess, sys; sys.path.insert(0, {support!r})\n"
        "from support.orphans import dying_with_us\n"
        "child = subprocess.Popen(dying_with_us(['cat']), stdin=subprocess.PIPE,\n"
        "                         stdout=subprocess.PIPE)\n"
        "child.stdin.write(b'x'); child.stdin.flush(); child.stdout.read(1)\n"
        "print(child.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = dying_with_us([sys.executable, "-c", code])
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_alive(child)

        parent.send_signal(signal.SIGKILL)
        parent.wait()

    wait_until(lambda: not is_alive(child), patience_s=5, what="the orphan's end")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
