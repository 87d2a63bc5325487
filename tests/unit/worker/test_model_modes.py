from __future__ import annotations

from embedpool_worker.providers.model_modes import modes_from, other_modes


def test_an_image_model_is_known_without_its_size_and_quality() -> None:
    blob = b'{"azure/hd/1024-x-1024/dall-e-3": {"mode": "image_generation"}}'

    assert modes_from(blob)["dall-e-3"] == "image_generation"


def test_only_what_does_not_embed_is_kept() -> None:
    blob = b'{"a":{"mode":"chat"},"b":{"mode":"embedding"},"c":{"mode":null},"d":{"x":[1]}}'

    assert modes_from(blob) == {"a": "chat"}


def test_a_map_that_cannot_be_read_says_nothing() -> None:
    assert modes_from(b'["no", "map"]') == {}
    assert modes_from(b'{"a": {"mode": 3}}') == {}
    assert modes_from(b"{") == {}


def test_the_installed_map_knows_chat_models() -> None:
    modes = other_modes()

    assert modes["gpt-4o"] == "chat"
    assert "text-embedding-3-small" not in modes
