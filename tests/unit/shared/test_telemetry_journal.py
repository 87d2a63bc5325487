"""The log: a line for each event, readable by programs or by people, and nothing secret in it."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from embedpool_shared.errors import ProviderThrottled
from embedpool_shared.telemetry import journal
from embedpool_shared.telemetry.journal import Journal, LogLine, instant, keep_journal
from embedpool_shared.telemetry.line_writer import MAX_LINES, PIPE_BYTES, LineWriter
from embedpool_shared.telemetry.log_records import fields_of
from support.processes import wait_until

CANARY: Final = "canary-text-of-a-caller"


class Line(LogLine, tag="something"):
    """An event."""

    id: str
    ms: float = 0.0
    jobs: list[str] = []  # noqa: RUF012 (msgspec copies it)


def record(message: str, *args: Any, name: str = "embedpool_worker.x", **more: Any) -> Any:
    return logging.LogRecord(
        name, logging.WARNING, "f.py", 1, message, args, **({"exc_info": None} | more)
    )


def said(message: str, *args: Any, **more: Any) -> dict[str, Any]:
    fields = fields_of(record(message, *args, **more))
    return {k: v for k, v in fields.items() if k not in {"at", "level", "logger"}}


def _raise(error: Exception) -> None:
    raise error


def raised(error: Exception) -> Any:
    with pytest.raises(type(error)) as caught:
        _raise(error)
    return caught._excinfo


@pytest.mark.parametrize(
    ("message", "args", "fields"),
    [
        (
            "key_cooling key=%s reason=%s for_s=%.1f", ("openai/m#1", "throttled", 2.04),
            {"event": "key_cooling", "key": "openai/m#1", "reason": "throttled", "for_s": 2.04},
        ),
        ("cache_full max_bytes=%d", (7,), {"event": "cache_full", "max_bytes": 7}),
        (
            "config_%s path=%s reason=%s", ("ignored", "a.b", "two words"),
            {"event": "config_ignored", "path": "a.b", "reason": "two words"},
        ),
        (
            "key_retired key=%s: the provider rejected it", ("k",),
            {"event": "key_retired", "key": "k"},
        ),
        ("redis_forgot_us", (), {"event": "redis_forgot_us"}),
    ],
)  # fmt: skip
def test_what_we_say_in_passing_becomes_fields(
    message: str, args: tuple[object, ...], fields: dict[str, Any]
) -> None:
    assert said(message, *args) == fields


def test_an_error_is_told_by_class_code_and_places_without_its_words() -> None:
    error = raised(ValueError(CANARY))

    fields = said("request_failed", exc_info=error)

    assert fields["error"] == "ValueError"
    assert "test_telemetry_journal.py" in fields["stack"]
    assert CANARY not in json.dumps(fields)
    assert said("x", exc_info=raised(ProviderThrottled("slow down", code="rate")))["code"] == "rate"


def test_a_foreign_library_says_only_what_is_known_to_be_harmless() -> None:
    harmless = said("Task failed\nfuture: %s", CANARY, name="asyncio")
    other = said(f"sending {CANARY}", name="LiteLLM")

    assert harmless == {"event": "log", "message": "Task failed"}
    assert other == {"event": "log"}


def test_a_line_of_json_has_its_event_and_leaves_out_what_says_nothing() -> None:
    lines: list[bytes] = []
    own = Journal(lines.append, level=logging.INFO, is_json=True)

    own.say(logging.INFO, Line(at=instant(), level="info", id="a"))
    own.say(logging.DEBUG, Line(at=instant(), level="debug", id="b"))

    [line] = lines
    assert line.endswith(b"\n")
    found = json.loads(line)
    assert found.pop("at").endswith("Z")
    assert found == {"event": "something", "level": "info", "id": "a"}


def test_a_line_for_people_has_its_words_in_a_row() -> None:
    lines: list[bytes] = []
    own = Journal(lines.append, level=logging.INFO, is_json=False)

    own.say(
        logging.WARNING,
        Line(at=instant(), level="warning", id="two words", ms=1.5, jobs=["p:0", "p:1"]),
    )

    assert lines[0].decode().split(" ", 1)[1] == (
        "WARNING something id='two words' ms=1.5 jobs=p:0,p:1\n"
    )


@pytest.fixture
def loggers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget afterwards what `keep_journal` has set."""
    root = logging.getLogger()
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(journal, "_current", [journal.journal()])
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    for name in journal.OURS:
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.mark.usefixtures("loggers")
@pytest.mark.parametrize(("level", "count"), [("DEBUG", 3), ("warning", 2), ("", 2), ("what", 2)])
def test_the_level_is_about_us_and_others_only_warn(level: str, count: int, tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "log", os.O_CREAT | os.O_WRONLY)
    keep_journal({"EMBEDPOOL_LOG_LEVEL": level}, descriptor=descriptor)

    logging.getLogger("embedpool_api.x").debug("ours_quiet")
    logging.getLogger("embedpool_api.x").error("ours_loud n=%d", 3)
    logging.getLogger("botocore").debug("signing with %s", CANARY)
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    written = lines_in(tmp_path / "log", count)

    assert [json.loads(line)["event"] for line in written][-2:] == ["ours_loud", "log"]
    os.close(descriptor)


def lines_in(path: Path, count: int) -> list[str]:
    wait_until(lambda: path.read_text().count("\n") >= count, patience_s=5, what="the lines")
    lines = path.read_text().splitlines()
    assert len(lines) == count
    return lines


def test_lines_are_written_whole_and_no_write_is_longer_than_a_pipe_takes() -> None:
    reading, writing = os.pipe()
    writer = LineWriter(writing)
    lines = [b"%d " % n + b"x" * 900 + b"\n" for n in range(40)]

    for line in lines:
        writer.write(line)
    writer.flush()
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b"".join(lines)
    assert PIPE_BYTES >= 4 * 901


def test_a_reader_that_is_too_slow_costs_lines_and_is_told_how_many() -> None:
    reading, writing = os.pipe()
    writer = LineWriter(writing)
    writer._wake.set()  # as if the thread were busy

    for _ in range(MAX_LINES + 3):
        writer.write(b"\n")
    writer.flush()
    os.close(writing)

    with os.fdopen(reading, "rb") as pipe:
        assert b'{"event":"log_lines_dropped","lines":3}' in pipe.read()
