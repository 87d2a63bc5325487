"""Which paths are the embeddings endpoint, and the model some of them name. Pure."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

FIXED: Final = ("/v1/embeddings", "/embeddings", "/openai/v1/embeddings")
NAMING: Final = ("/engines/", "/openai/deployments/")
"""Beginnings of paths that name the model, which may contain slashes, before `/embeddings`."""
MODEL: Final = "embedpool.model"
"""Key of the scope: the model named by the path, or None."""
EMBEDDINGS: Final = "embeddings"
OPS: Final = "ops"
OTHER: Final = "other"
"""Names of routes in the metrics, beside those of `_ROUTE_OF`."""
_ROUTE_OF: Final = {
    "models": "models",
    "model": "models",
    "key": "keys",
    "team": "teams",
    "user": "users",
    "spend": "spend",
    "global": "spend",
    "files": "files",
    "batches": "batches",
    "healthz": OPS,
    "health": OPS,
    "readyz": OPS,
    "metrics": OPS,
    "pool": OPS,
    "": OPS,
    "openapi.json": OPS,
}
_FIXED: Final = frozenset(FIXED)
_END: Final = "/embeddings"


class HotPath(NamedTuple):
    """The path is the embeddings endpoint's."""

    model: str | None


_NAMELESS: Final = HotPath(None)


@lru_cache(maxsize=1_024)
def hot_path(path: str) -> HotPath | None:
    """Recognise the endpoint by the decoded path as the server read it, never by a header."""
    if path in _FIXED:
        return _NAMELESS
    if path.endswith(_END):
        for beginning in NAMING:
            if path.startswith(beginning):
                model = path[len(beginning) : -len(_END)].strip("/")
                return HotPath(model) if model else None
    return None


@lru_cache(maxsize=1_024)
def route_of(path: str) -> str:
    """Name what a path is about, as the metrics do: by its first part, behind any `/v1`."""
    if hot_path(path) is not None:
        return EMBEDDINGS
    first = path.removeprefix("/v1").removeprefix("/").partition("/")[0]
    return _ROUTE_OF.get(first, OTHER)
