"""No process that a test or benchmark started outlives it, however that one ends."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

# Runs in the child before the real program: PR_SET_PDEATHSIG is 1 and survives exec. A parent that
# died before the call is noticed by its pid. A preexec_fn would do the same, but forks threads.
_LAST_WORD: Final = (
    "import ctypes, os, sys\n"
    "ctypes.CDLL(None).prctl(1, int(sys.argv[1]))\n"
    "if os.getppid() != int(sys.argv[2]): sys.exit(1)\n"
    "os.execvp(sys.argv[3], sys.argv[3:])\n"
)


def dying_with_us(command: Sequence[str], *, by: signal.Signals = signal.SIGKILL) -> list[str]:
    """Extend `command` so that its process gets the signal `by` when ours is gone.

    The kernel watches the thread that starts the process: start it from one that stays.
    """
    return [
        sys.executable,
        "-I",
        "-S",
        "-c",
        _LAST_WORD,
        str(int(by)),
        str(os.getpid()),
        *command,
    ]
