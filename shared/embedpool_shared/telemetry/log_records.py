"""What a record of `logging` says, as fields. Pure but for the record.

Ours are `event name=value …`: the names come from the template, the values stay numbers where they
are. Of an error there is its class, its code and where it happened; its words may hold anybody's
text.
"""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

HARMLESS: Final = ("asyncio", "arq", "uvicorn")
"""Libraries that speak about themselves; of their words the first line is kept."""
MAX_WORDS: Final = 300
_FIELD: Final = re.compile(r"(\w+)=(%[-+ #0]*\d*(?:\.\d+)?[a-zA-Z])")
_PLACE: Final = re.compile(r"%[-+ #0]*\d*(?:\.\d+)?[a-zA-Z]")


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Read a record."""
    at = datetime.fromtimestamp(record.created, UTC)
    fields: dict[str, Any] = {
        "event": "log",
        "at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
    }
    if record.name.startswith("embedpool_"):
        fields |= _said(str(record.msg), record.args)
    elif record.name.partition(".")[0] in HARMLESS:
        fields["message"] = record.getMessage().partition("\n")[0][:MAX_WORDS]
    request_id = getattr(record, "request_id", "")
    if request_id:
        fields["request_id"] = request_id
    if record.exc_info and record.exc_info[1] is not None:
        fields |= _error(record.exc_info[1])
    return fields


def _said(template: str, args: Any) -> dict[str, Any]:
    values = list(args) if isinstance(args, tuple) else []
    head, _, rest = template.partition(" ")
    in_head = len(_PLACE.findall(head))
    try:
        event = head % tuple(values[:in_head]) if in_head else head
        named = zip(_FIELD.findall(rest), values[in_head:], strict=False)
        return {"event": event.rstrip(":"), **{name: _value(fmt, v) for (name, fmt), v in named}}
    except (TypeError, ValueError):
        return {"event": head}


def _value(form: str, value: object) -> Any:
    if isinstance(value, bool | int) or value is None:
        return value
    return round(value, 3) if isinstance(value, float) else form % (value,)


def _error(error: BaseException) -> dict[str, Any]:
    fields: dict[str, Any] = {"error": type(error).__name__, "stack": "\n".join(_places(error))}
    code = getattr(error, "code", None)
    return fields | {"code": code} if isinstance(code, str) else fields


def _places(error: BaseException) -> Iterator[str]:
    """Say where an error came from, and the one before it, without their words."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        yield from _places(cause)
        yield "then"
    for frame in traceback.extract_tb(error.__traceback__):
        yield f"{frame.filename}:{frame.lineno} in {frame.name}"
    yield type(error).__name__
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _places(inner)
