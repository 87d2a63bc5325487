"""Values that several commands take on the command line. Pure."""

from __future__ import annotations

import argparse
import json
from typing import Any
from urllib.parse import urlsplit


def url(text: str) -> str:
    """Read a pool's bare address."""
    try:
        parts = urlsplit(text)
        is_url = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or not text.isascii() or " " in text:
        raise argparse.ArgumentTypeError("should be an address like http://host:4000")
    if "@" in text or "?" in text or "#" in text:
        raise argparse.ArgumentTypeError("should be a bare address: no user, no ? and no #")
    return text.rstrip("/")


def names(text: str) -> list[str]:
    """Read names with commas between them."""
    return [name.strip() for name in text.split(",") if name.strip()]


def count(text: str) -> int:
    """Read a whole number from 0."""
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"should be a whole number, not {text!r}")
    return int(text)


def amount(text: str) -> float:
    """Read dollars."""
    try:
        dollars = float(text.removeprefix("$"))
    except ValueError:
        dollars = -1.0
    if not 0 <= dollars < float("inf"):
        raise argparse.ArgumentTypeError(f"should be an amount like 2.50, not {text!r}")
    return dollars


def json_object(text: str) -> dict[str, Any]:
    """Read a JSON object."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError('should be a JSON object like {"project": "search"}')
    return value
