"""The processes under `embedpool serve`: how they are started, and how their end is noticed.

Invariants
- A child stays in our process group, but Ctrl-C and a closed terminal reach only us: we decide who
  ends when. It never outlives us.
- A child's pid is its own until its end was noticed, so a signal cannot hit anybody else.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

STDERR: Final = 2
USUAL_UMASK: Final = -1
TERMINAL_SIGNALS: Final = frozenset({signal.SIGINT, signal.SIGHUP})


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One process to start."""

    process_id: str
    command: tuple[str, ...]
    environ: Mapping[str, str] = field(repr=False)
    fds: tuple[int, ...] = ()  # inherited under the same numbers
    umask: int = USUAL_UMASK


def child_command(program: str, *arguments: str) -> tuple[str, ...]:
    """Write the command line that runs `program` as our child; `embedpool` is this very code."""
    entry = (sys.executable, "-P", "-m", "embedpool_cli.child", str(os.getpid()))
    return (*entry, program, *arguments)


class Child:
    """One process we started; `ended` becomes its exit code, negative for a signal's number."""

    def __init__(self, launch: Launch) -> None:
        """Start it; raises `OSError`."""
        loop = asyncio.get_running_loop()
        self.launch = launch
        self.started_at = loop.time()
        self.ended: asyncio.Future[int] = loop.create_future()
        self._popen = _started(launch)
        watch = (self._popen.pid, lambda: loop.call_soon_threadsafe(self._reap))
        threading.Thread(target=_watch, args=watch, name="child", daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._popen.pid

    @property
    def is_running(self) -> bool:
        """Whether its end has not been noticed yet."""
        return not self.ended.done()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; to one that has ended this is nothing."""
        if self.is_running:
            os.kill(self.pid, number)

    def _reap(self) -> None:
        self.ended.set_result(self._popen.wait())


async def end(children: Sequence[Child], *, patience_s: float) -> None:
    """Ask `children` to end, kill those left after `patience_s`; return when all are gone."""
    running = [child for child in children if child.is_running]
    for child in running:
        child.signal(signal.SIGTERM)
    if running and patience_s > 0:
        await asyncio.wait([child.ended for child in running], timeout=patience_s)
    for child in running:
        child.signal(signal.SIGKILL)
    if running:
        await asyncio.wait([child.ended for child in running])


def how_it_ended(code: int) -> str:
    """Put an exit code into words."""
    if code >= 0:
        return f"exited with {code}"
    with suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"


def _started(launch: Launch) -> subprocess.Popen[bytes]:
    # A blocked signal stays blocked in the new program, whatever handlers its libraries install.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL_SIGNALS)
    try:
        return subprocess.Popen(  # noqa: S603 (the command is our own)
            launch.command,
            stdin=subprocess.DEVNULL,
            stdout=STDERR,  # our stdout says one thing: where we serve
            env=launch.environ,
            pass_fds=launch.fds,
            umask=launch.umask,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _watch(pid: int, tell: Callable[[], object]) -> None:
    # Left unreaped, so that its pid stays taken until the loop knows.
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with suppress(RuntimeError):  # the loop has been closed: nobody waits
        tell()
