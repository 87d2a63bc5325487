"""Programs under test as child processes: started in a group of their own, watched, and ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from support.orphans import dying_with_us

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

ROOT: Final = Path(__file__).resolve().parents[2]
_GLANCE_S: Final = 0.01
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


class NotInTime(AssertionError):
    """What was waited for did not happen; the message holds what the process said."""


@dataclass(frozen=True, slots=True)
class Member:
    """One process of a group."""

    pid: int
    command: str
    cpu_s: float


def wait_until(
    is_so: Callable[[], bool], *, patience_s: float, what: str, glance_s: float = _GLANCE_S
) -> None:
    """Return as soon as `is_so`; raises `NotInTime` saying `what` did not happen."""
    give_up_at = time.monotonic() + patience_s
    while not is_so():
        if time.monotonic() > give_up_at:
            raise NotInTime(f"{what}: not within {patience_s:g} s")
        time.sleep(glance_s)


def answers_ok(url: str) -> bool:
    """Say whether a GET of `url` is a 200 right now."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310
            return bool(response.status == 200)
    except urllib.error.HTTPError as refusal:
        refusal.close()
    except OSError:
        pass
    return False


def group_members(group: int) -> list[Member]:
    """List the living processes of a group, by /proc."""
    found = (_member(int(entry.name), group) for entry in Path("/proc").iterdir() if _is_pid(entry))
    return [member for member in found if member is not None]


def _is_pid(entry: Path) -> bool:
    return entry.name.isdigit()


def _member(pid: int, group: int) -> Member | None:
    try:
        # The name in parentheses may hold spaces; state, ppid and pgrp follow it.
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if int(stat[2]) != group or stat[0] == "Z":
            return None
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Member(pid, command, (int(stat[11]) + int(stat[12])) / _TICKS_PER_S)


class Program:
    """A running program and its children; leaving it as a context kills what is left of them."""

    def __init__(self, command: Sequence[str], *, log: Path, env: Mapping[str, str]) -> None:
        self.log = log
        self._popen = self._started(command, env)

    def _started(self, command: Sequence[str], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        # SIGTERM, so that a server that loses us still stops its own children.
        with self.log.open("wb") as output:
            return subprocess.Popen(
                dying_with_us(command, by=signal.SIGTERM),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **env},
                process_group=0,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """The program's own process, which leads the group."""
        return self._popen.pid

    @property
    def output(self) -> str:
        """Everything it has printed so far, errors too."""
        return self.log.read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        """Whether the program itself still runs."""
        return self._popen.poll() is None

    def members(self, part: str = "") -> list[Member]:
        """List its living processes whose command line contains `part`."""
        return [member for member in group_members(self.pid) if part in member.command]

    def wait_for_line(self, part: str, *, patience_s: float = 30.0) -> str:
        """Return the first complete line that contains `part`."""
        self.wait_until(lambda: bool(self._lines(part)), patience_s=patience_s, what=part)
        return self._lines(part)[0]

    def wait_for_ok(self, url: str, *, patience_s: float = 30.0) -> None:
        """Return when a GET of `url` is a 200."""
        self.wait_until(lambda: answers_ok(url), patience_s=patience_s, what=f"200 from {url}")

    def wait_until(self, is_so: Callable[[], bool], *, patience_s: float, what: str) -> None:
        """Return as soon as `is_so`; raises `NotInTime` with the output, at once if it exits."""
        try:
            wait_until(lambda: is_so() or not self.is_running, patience_s=patience_s, what=what)
        except NotInTime as error:
            raise NotInTime(f"{error}; it printed:\n{self.output}") from None
        if not self.is_running and not is_so():
            code = self._popen.returncode
            raise NotInTime(f"{what}: it exited with {code}; it printed:\n{self.output}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program, not to its children."""
        self._popen.send_signal(number)

    def stop(self, *, patience_s: float = 30.0) -> int:
        """Ask it to end, as Ctrl-C does, and return its exit code; raises `NotInTime`."""
        if self.is_running:
            self.signal(signal.SIGINT)
        return self.wait(patience_s=patience_s)

    def wait(self, *, patience_s: float = 30.0) -> int:
        """Return the exit code once it has ended; raises `NotInTime` with what it printed."""
        try:
            return self._popen.wait(patience_s)
        except subprocess.TimeoutExpired:
            raise NotInTime(f"no end within {patience_s:g} s; it printed:\n{self.output}") from None

    def kill(self) -> None:
        """Kill the whole group and wait for the program."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()

    def _lines(self, part: str) -> list[str]:
        complete = self.output.rpartition("\n")[0]
        return [line for line in complete.splitlines() if part in line]


NO_METRICS: Final = {"EMBEDPOOL_METRICS_API_PORT": "0", "EMBEDPOOL_METRICS_WORKER_PORT": "0"}


def embedpool_command() -> list[str]:
    """Find the console script beside this interpreter; without an install, run the package."""
    script = Path(sys.executable).with_name("embedpool")
    return [str(script)] if script.exists() else [sys.executable, "-m", "embedpool_cli"]


def embedpool(*arguments: str, log: Path, env: Mapping[str, str] | None = None) -> Program:
    """Start `embedpool …`; its output goes to `log`. No metrics are served unless asked for."""
    roots = os.pathsep.join(str(ROOT / name) for name in ("api", "worker", "shared", "cli"))
    return Program(
        [*embedpool_command(), *arguments],
        log=log,
        env={"PYTHONPATH": roots, "PYTHONUNBUFFERED": "1", **NO_METRICS, **(env or {})},
    )
