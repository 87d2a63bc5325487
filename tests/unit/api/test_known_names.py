"""What the configuration alone can say about a model's name."""

from __future__ import annotations

from typing import Any

import pytest

from embedpool_api.known_names import rules_out
from embedpool_shared.config.settings import Config

LISTED = {"model_name": "small", "litellm_params": {"model": "openai/small"}}
CLOSED: dict[str, Any] = {
    "model_list": [LISTED],
    "router_settings": {"model_group_alias": {"tiny": "small"}},
    "unlisted_providers": [],
}


def is_ruled_out(name: str, *, has_file: bool = True, **changes: Any) -> bool:
    return rules_out(Config.model_validate(CLOSED | changes), has_file=has_file)(name)


@pytest.mark.parametrize("name", ["small", "Small", "tiny", "T-iny", "small@openai"])
def test_what_is_listed_may_be_served(name: str) -> None:
    assert not is_ruled_out(name)


@pytest.mark.parametrize("name", ["large", "large@openai", "", "@"])
def test_what_is_not_listed_is_ruled_out(name: str) -> None:
    assert is_ruled_out(name)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"unlisted_providers": ["cohere"]}, id="a provider is served unlisted"),
        pytest.param({"unlisted_providers": None}, id="open mode serves what has a key"),
        pytest.param({"model_list": [LISTED | {"model_name": "openai/*"}]}, id="a wildcard"),
        pytest.param({"has_file": False}, id="no configuration at all"),
    ],
)
def test_a_configuration_that_is_open_rules_nothing_out(changes: dict[str, Any]) -> None:
    assert not is_ruled_out("large", **changes)
