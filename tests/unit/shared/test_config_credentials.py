"""Named credentials are put where models name them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from embedpool_shared.config.credentials import with_credentials
from embedpool_shared.config.file import load_config
from embedpool_shared.config.notices import NoticeKind


def entry(**params: Any) -> dict[str, Any]:
    return {"model_name": "m", "litellm_params": {"model": "azure/x", **params}}


def credential(name: str, **values: Any) -> dict[str, Any]:
    return {"credential_name": name, "credential_values": values, "credential_info": {}}


def params_of(tree: dict[str, Any]) -> dict[str, Any]:
    (model,) = tree["model_list"]
    params: dict[str, Any] = model["litellm_params"]
    return params


def test_a_model_gets_the_credential_it_names() -> None:
    tree, notices = with_credentials(
        {
            "model_list": [entry(litellm_credential_name="eu")],
            "credential_list": [credential("eu", api_key="k", api_base="https://eu")],
        }
    )

    assert tree.keys() == {"model_list"}
    assert params_of(tree) == {"model": "azure/x", "api_key": "k", "api_base": "https://eu"}
    assert notices == []


def test_what_the_model_says_itself_wins() -> None:
    tree, _ = with_credentials(
        {
            "model_list": [entry(litellm_credential_name="eu", api_key="own")],
            "credential_list": [credential("eu", api_key="k", model="never")],
        }
    )

    assert params_of(tree) == {"model": "azure/x", "api_key": "own"}


def test_several_models_may_name_one_credential() -> None:
    tree, _ = with_credentials(
        {
            "model_list": [
                entry(litellm_credential_name="eu"),
                entry(litellm_credential_name="eu"),
            ],
            "credential_list": [credential("eu", api_key="k")],
        }
    )

    assert [model["litellm_params"]["api_key"] for model in tree["model_list"]] == ["k", "k"]


def test_for_a_credential_nobody_lists_no_other_key_stands_in() -> None:
    tree, (notice,) = with_credentials({"model_list": [entry(litellm_credential_name="gone")]})

    assert params_of(tree) == {"model": "azure/x", "api_key": ""}
    assert notice.kind is NoticeKind.WARNING
    assert notice.path == "model_list[0].litellm_params.litellm_credential_name"


def test_a_credential_nobody_names_is_listed() -> None:
    tree, (notice,) = with_credentials({"credential_list": [credential("old", api_key="k")]})

    assert tree == {}
    assert (notice.kind, notice.path) == (NoticeKind.IGNORED, "credential_list (old)")


@pytest.mark.parametrize(
    "section", ["canary", ["canary"], [{"credential_name": "canary"}], {"a": "canary"}]
)
def test_what_is_no_credential_is_warned_of_and_not_repeated(section: object) -> None:
    _, notices = with_credentials({"credential_list": section})

    assert [notice.kind for notice in notices] == [NoticeKind.WARNING]
    assert "canary" not in repr(notices)


@pytest.mark.parametrize("models", [None, "x", ["x"], [{}], [{"litellm_params": 3}], [entry()]])
def test_whatever_else_is_in_the_list_of_models_stays_as_it_is(models: object) -> None:
    tree, notices = with_credentials({"model_list": models, "pool": {}})

    assert tree == {"model_list": models, "pool": {}}
    assert notices == []


def test_a_credentials_reference_is_looked_up_like_the_models_own(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        "model_list: [{model_name: m, litellm_params: {model: azure/x, "
        "litellm_credential_name: eu}}]\n"
        "credential_list: [{credential_name: eu, credential_values: {api_key: os.environ/K}}]"
    )

    secrets = load_config(file, {"K": "k"}).config.model_list[0].litellm_params.secrets()
    unset = load_config(file, {"AZURE_API_KEY": "another"})

    assert secrets == ("k",)
    assert unset.config.model_list[0].litellm_params.names_key
    assert unset.config.model_list[0].litellm_params.secrets() == ()
    assert [n.path for n in unset.notices] == ["model_list[0].litellm_params.api_key"]
