"""How people end us: the first signal asks for a clean stop, a second Ctrl-C for an end at once."""

from __future__ import annotations

import asyncio
import signal
from typing import Final

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAME_KEYSTROKE_S: Final = 0.3
"""One Ctrl-C can arrive twice: from the terminal, and passed on by whoever started us."""


class StopSignals:
    """What has been asked for so far."""

    def __init__(self) -> None:
        """Nothing yet; `listen` starts hearing."""
        self.stop = asyncio.Event()
        self.at_once = asyncio.Event()
        self._asked_at = 0.0

    def listen(self) -> None:
        """Hear signals from now on; a hang-up stays ignored where the shell (nohup) said so."""
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                loop.add_signal_handler(number, self.hear, number)

    def deafen(self) -> None:
        """Hear no more."""
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)

    def hear(self, number: signal.Signals) -> None:
        """Note one signal."""
        now = asyncio.get_running_loop().time()
        if not self.stop.is_set():
            self._asked_at = now
            self.stop.set()
        elif number == signal.SIGINT and now - self._asked_at > SAME_KEYSTROKE_S:
            self.at_once.set()
