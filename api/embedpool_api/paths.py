"""Which paths are the embeddings endpoint, and the model some of them name. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

FIXED: Final = ("/v1/embeddings", "/embeddings", "/openai/v1/embeddings")
NAMING: Final = ("/engines/", "/openai/deployments/")
"""Beginnings of paths that name the model, which may contain slashes, before `/embeddings`."""
MODEL: Final = "embedpool.model"
"""Key of the scope: the model named by the path, or None."""
_FIXED: Final = frozenset(FIXED)
_END: Final = "/embeddings"


class HotPath(NamedTuple):
    """The path is the embeddings endpoint's."""

    model: str | None


_NAMELESS: Final = HotPath(None)


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
