"""The log of a process: one line of JSON for each event, or a readable one on a terminal.

Invariants
- No line holds a caller's text or a secret: of an error it has the class, the code and the places
  in the program, and of a foreign library's words only those known to be harmless.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from typing_extensions import override

from embedpool_shared.telemetry.line_writer import LineWriter
from embedpool_shared.telemetry.log_records import fields_of

FORMAT_NAME: Final = "EMBEDPOOL_LOG_FORMAT"
LEVEL_NAME: Final = "EMBEDPOOL_LOG_LEVEL"
STDERR: Final = 2
OURS: Final = ("embedpool_api", "embedpool_worker", "embedpool_shared", "embedpool_cli")
"""What the level is about; other libraries say warnings and worse, whatever it is."""
LEVELS: Final = {
    level: logging.getLevelName(level).lower()
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
}


class LogLine(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="event"):
    """One event; what has its default is left out."""

    at: datetime
    level: str


class Journal:
    """Where log lines go."""

    def __init__(self, write: Callable[[bytes], None], *, level: int, is_json: bool) -> None:
        """Hand finished lines to `write`."""
        self.level = level
        self._write = write
        self._is_json = is_json
        self._encoder = msgspec.json.Encoder()

    def say(self, level: int, line: LogLine) -> None:
        """Write a line if this level is wanted; better ask `level` before making it."""
        if level < self.level:
            return
        if self._is_json:
            self._write(self._encoder.encode(line) + b"\n")
        else:
            self._write(_readable(msgspec.to_builtins(line)))

    def record(self, fields: Mapping[str, Any]) -> None:
        """Write what somebody said in passing."""
        self._write(self._encoder.encode(fields) + b"\n" if self._is_json else _readable(fields))


def _readable(fields: Mapping[str, Any]) -> bytes:
    rest = {k: v for k, v in fields.items() if k not in {"at", "level", "event", "logger"}}
    stack = rest.pop("stack", "")
    words = " ".join(f"{name}={_word(value)}" for name, value in rest.items())
    at = str(fields.get("at", ""))[11:23].rstrip("Z")
    head = f"{at} {str(fields.get('level', '')).upper():<7} {fields.get('event', '')} {words}"
    return f"{head.rstrip()}\n{stack}".encode() + (b"\n" if stack else b"")


def _word(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(_word, value))
    text = str(value)
    return repr(text) if " " in text or not text.isprintable() else text


class JournalHandler(logging.Handler):
    """Brings what is said by `logging` into the journal."""

    def __init__(self, journal: Journal) -> None:
        """Write to `journal`."""
        super().__init__()
        self._journal = journal

    @override
    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            self._journal.record(fields_of(record))
        except Exception:  # noqa: BLE001 (what cannot be logged must not end what was done)
            self.handleError(record)


_silent: Final = Journal(lambda _: None, level=logging.CRITICAL + 1, is_json=True)
_current = [_silent]


def journal() -> Journal:
    """Find this process' journal; before `keep_journal` nothing is written there."""
    return _current[0]


def keep_journal(environ: Mapping[str, str], *, descriptor: int = STDERR) -> Journal:
    """Write the journal to a descriptor from now on, and all that `logging` is told with it."""
    level = logging.getLevelNamesMapping().get(environ.get(LEVEL_NAME, "").upper(), logging.INFO)
    wanted = environ.get(FORMAT_NAME, "").lower()
    is_json = wanted == "json" or (wanted != "pretty" and not os.isatty(descriptor))
    kept = _current[0] = Journal(LineWriter(descriptor).write, level=level, is_json=is_json)
    logging.basicConfig(level=logging.WARNING, handlers=[JournalHandler(kept)], force=True)
    for name in OURS:
        logging.getLogger(name).setLevel(level)
    sys.excepthook = _crash
    return kept


def _crash(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger("embedpool_cli").critical("crashed", exc_info=(kind, error, trace))


def instant() -> datetime:
    """Say what time it is, for people."""
    return datetime.now(UTC)
