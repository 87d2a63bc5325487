"""Writes log lines to a file descriptor from a thread, so that nobody waits for whoever reads them.

Invariants
- Lines of several processes on one descriptor do not mix: no write is longer than a pipe takes at
  once, unless a single line is.
- A reader that is too slow costs lines, never memory and never time; how many is said later.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections import deque
from collections.abc import Sequence
from typing import Final

PIPE_BYTES: Final = 4_096
GATHER_S: Final = 0.02
"""After a line others follow; one writing serves them all."""
MAX_LINES: Final = 20_000
LAST_WORDS_S: Final = 1.0


class LineWriter:
    """Owns a descriptor's log."""

    def __init__(self, descriptor: int) -> None:
        """Start with the first line."""
        self.dropped = 0
        self._descriptor = descriptor
        self._lines: deque[bytes] = deque()
        self._wake = threading.Event()
        self._writing = threading.Lock()
        self._thread: threading.Thread | None = None

    def write(self, line: bytes) -> None:
        """Write a line soon, with its end."""
        if len(self._lines) >= MAX_LINES:
            self.dropped += 1
            return
        self._lines.append(line)
        if not self._wake.is_set():
            if self._thread is None:
                self._start()
            self._wake.set()

    def flush(self) -> None:
        """Write now what has not been written."""
        with self._writing:
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            if self.dropped:
                lines.append(b'{"event":"log_lines_dropped","lines":%d}\n' % self.dropped)
                self.dropped = 0
            for some in _chunks(lines):
                self._write_all(some)

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()
        atexit.register(self._say_last)

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            self._wake.wait()
            pause.wait(GATHER_S)
            self._wake.clear()
            self.flush()

    def _say_last(self) -> None:
        # The reader may have stopped reading for good: nobody's end waits for it.
        last = threading.Thread(target=self.flush, daemon=True)
        last.start()
        last.join(LAST_WORDS_S)

    def _write_all(self, chunk: bytes) -> None:
        try:
            while chunk:
                chunk = chunk[os.write(self._descriptor, chunk) :]
        except OSError:
            return  # nobody reads any more


def _chunks(lines: Sequence[bytes]) -> list[bytes]:
    """Join lines, up to what is written in one piece."""
    chunks: list[bytes] = []
    some: list[bytes] = []
    size = 0
    for line in lines:
        if some and size + len(line) > PIPE_BYTES:
            chunks.append(b"".join(some))
            some, size = [], 0
        some.append(line)
        size += len(line)
    return [*chunks, b"".join(some)] if some else chunks
