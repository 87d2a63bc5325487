"""The endpoint is recognised at all its paths, and nowhere else."""

from __future__ import annotations

import pytest

from embedpool_api.paths import HotPath, hot_path


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/embeddings", None),
        ("/embeddings", None),
        ("/openai/v1/embeddings", None),
        ("/engines/m/embeddings", "m"),
        ("/engines/a/b/c/embeddings", "a/b/c"),
        ("/openai/deployments/m/embeddings", "m"),
        ("/openai/deployments/a/b@openai/embeddings", "a/b@openai"),
        ("/engines/embeddings/embeddings", "embeddings"),
    ],
)
def test_every_path_of_the_endpoint_is_known(path: str, model: str | None) -> None:
    assert hot_path(path) == HotPath(model)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/v1/embeddings/",
        "/v2/embeddings",
        "/engines/embeddings",
        "/engines//embeddings",
        "/engines/m",
        "/openai/deployments/embeddings",
        "/openai/deployments/m/chat/completions",
        "/x/v1/embeddings",
        "/V1/embeddings",
    ],
)
def test_no_other_path_is(path: str) -> None:
    assert hot_path(path) is None
