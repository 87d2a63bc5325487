"""The page's own files, and the headers under which nothing else can run in it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Final

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
SAFE: Final[Mapping[str, str]] = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
PRIVATE: Final[Mapping[str, str]] = {**SAFE, "cache-control": "no-store"}
"""For whatever only some may see."""
SHELL: Final = "page.html"
_MEDIA_TYPES: Final[Mapping[str, str]] = {
    SHELL: "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file as it is served."""

    body: bytes
    media_type: str
    headers: Mapping[str, str]


def page_files() -> dict[str, PageFile]:
    """Read the page's files, by their names."""
    folder = resources.files(__package__).joinpath("page")
    return {
        name: _file(folder.joinpath(name).read_bytes(), media_type)
        for name, media_type in _MEDIA_TYPES.items()
    }


def _file(body: bytes, media_type: str) -> PageFile:
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    return PageFile(body, media_type, {**SAFE, "cache-control": "no-cache", "etag": tag})
