"""What a provider says in the body of an error, whichever of the usual shapes it has. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from embedpool_worker.providers.retry_after import duration_s

MAX_MESSAGE_CHARS: Final = 8_192
"""What is looked at; far less is ever shown."""
_NOT_FOR_EYES: Final = ("<!doctype", "<html", "<?xml")


@dataclass(frozen=True, slots=True)
class Complaint:
    """A provider's own words; not scrubbed yet."""

    message: str = ""
    code: str | None = None
    param: str | None = None
    kind: str | None = None  # its `type`
    status: int | None = None  # an HTTP status named inside the body
    retry_after_s: float | None = None  # Google says it only here


def complaint_from(body: bytes) -> Complaint:
    """Read an error body in OpenAI's, Google's or FastAPI's shape, or as text; HTML is dropped."""
    try:
        tree = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = body[:MAX_MESSAGE_CHARS].decode("utf-8", "replace").strip()
        return Complaint("" if text.lower().startswith(_NOT_FOR_EYES) else text)
    if isinstance(tree, list) and tree:
        tree = tree[0]
    if not isinstance(tree, Mapping):
        return Complaint(tree if isinstance(tree, str) else "")
    return _from_object(tree)


def _from_object(tree: Mapping[str, Any]) -> Complaint:
    error = tree.get("error")
    inner: Mapping[str, Any] = error if isinstance(error, Mapping) else tree
    code, kind = inner.get("code"), inner.get("type") or inner.get("error_type")
    return Complaint(
        message=_message(inner),
        code=_word(code) or _word(inner.get("status")),
        param=_word(inner.get("param")) or _field(inner.get("detail")),
        kind=_word(kind) or _word(inner.get("__type")),
        status=_status(code) or _status(inner.get("status")),
        retry_after_s=_google_delay(inner.get("details")),
    )


def _message(inner: Mapping[str, Any]) -> str:
    for name in ("message", "Message", "msg", "error", "detail", "errors"):
        value = inner.get(name)
        if isinstance(value, str) and value:
            return value[:MAX_MESSAGE_CHARS]
        if isinstance(value, list) and value:
            return "; ".join(filter(None, map(_one_of_many, value[:3])))
    return ""


def _one_of_many(entry: object) -> str:
    """Read FastAPI's `{"loc", "msg", "input"}` without the input, which is the caller's text."""
    if isinstance(entry, Mapping):
        return _word(entry.get("msg")) or _word(entry.get("message")) or ""
    return entry if isinstance(entry, str) else ""


def _field(detail: object) -> str | None:
    if isinstance(detail, list) and detail and isinstance(detail[0], Mapping):
        loc = detail[0].get("loc")
        if isinstance(loc, list):
            return next((part for part in loc if isinstance(part, str) and part != "body"), None)
    return None


def _google_delay(details: object) -> float | None:
    for entry in details if isinstance(details, list) else ():
        delay = entry.get("retryDelay") if isinstance(entry, Mapping) else None
        if isinstance(delay, str):
            return duration_s(delay)
    return None


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= 500 else None


def _status(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) == 3:
        value = int(value)
    return value if isinstance(value, int) and 400 <= value < 600 else None
