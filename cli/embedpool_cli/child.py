"""What every process under `embedpool serve` does first: it arranges to die with its supervisor.

The kernel keeps that promise, however the supervisor ends. Started as
`python -m embedpool_cli.child <supervisor's pid> <program> <arguments>`; the program `embedpool`
runs right here, so the command line shows `embedpool worker` wherever embedpool comes from.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

EMBEDPOOL: Final = "embedpool"
PR_SET_PDEATHSIG: Final = 1


def main(supervisor_pid: int, program: str, arguments: Sequence[str]) -> int:
    """Run `embedpool <arguments>` here, or become another program."""
    if program != EMBEDPOOL:
        # A store gets the chance to write what it has.
        _die_with(supervisor_pid, signal.SIGTERM)
        return _become(program, arguments)
    _die_with(supervisor_pid, signal.SIGKILL)
    from embedpool_cli.main import main as embedpool  # noqa: PLC0415 (the promise comes first)

    return embedpool(arguments)


def _die_with(supervisor_pid: int, by: signal.Signals) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(by))
    # Whoever died before the call has left us to another parent.
    if os.getppid() != supervisor_pid:
        sys.exit(1)


def _become(program: str, arguments: Sequence[str]) -> int:
    try:
        os.execv(program, [program, *arguments])  # noqa: S606 (no shell is the point)
    except OSError as error:
        print(f"embedpool: cannot start {program}: {error.strerror}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
