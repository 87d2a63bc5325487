"""LiteLLM's sections are read as LiteLLM reads them, and what is not used is said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from embedpool_shared.config.litellm_sections import LitellmParams, ModelEntry, ModelInfo
from embedpool_shared.config.notices import NoticeKind, unused_in_entry, unused_in_sections
from embedpool_shared.config.settings import Config


def said(**params: Any) -> dict[str, tuple[NoticeKind, str]]:
    """What is said about one model with these parameters."""
    entry = ModelEntry.model_validate(
        {"model_name": "m", "litellm_params": {"model": "openai/x", **params}}
    )
    return {
        notice.path.rpartition(".")[2]: (notice.kind, notice.reason)
        for notice in unused_in_entry(0, entry)
    }


@pytest.mark.parametrize(
    ("given", "model"),
    [
        ({"model": "BAAI/bge-m3", "custom_llm_provider": "hosted_vllm"}, "hosted_vllm/BAAI/bge-m3"),
        ({"model": "openai/x", "custom_llm_provider": "openai"}, "openai/x"),
        ({"model": "*", "custom_llm_provider": "openai"}, "openai/*"),
        ({"model": "x", "custom_llm_provider": ""}, "x"),
        ({"model": "x", "custom_llm_provider": None}, "x"),
        ({"model": "x"}, "x"),
    ],
)
def test_a_provider_named_apart_is_part_of_the_model(given: Mapping[str, Any], model: str) -> None:
    assert LitellmParams.model_validate(given).model == model


def test_an_id_that_yaml_reads_as_a_number_is_a_name() -> None:
    assert ModelInfo.model_validate({"id": 1}).id == "1"


def test_a_providers_own_settings_are_text_and_objects_json() -> None:
    params = LitellmParams.model_validate(
        {
            "model": "vertex_ai/x",
            "vertex_credentials": {"type": "service_account"},
            "aws_session_duration": 900,
            "organization": ["a", "b"],
        }
    )

    assert params.options() == {
        "vertex_credentials": '{"type": "service_account"}',
        "aws_session_duration": "900",
    }


def test_a_list_of_organizations_is_warned_of_because_none_of_them_is_used() -> None:
    assert said(organization=["a", "b"]) == {
        "organization": (NoticeKind.WARNING, "not used: a list; write one entry for each")
    }
    assert said(organization="a") == {}


@pytest.mark.parametrize(
    "name",
    [
        "output_cost_per_token", "input_cost_per_token_batches", "input_cost_per_second",
        "input_cost_per_audio_token", "cache_read_input_token_cost", "max_output_tokens", "itpm",
        "otpm", "input_dbu_cost_per_token",
    ],
)  # fmt: skip
def test_a_setting_of_litellms_own_is_not_taken_for_a_misspelling(name: str) -> None:
    assert "did you mean" not in said(**{name: 1})[name][1]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("input_cost_per_tokens", "input_cost_per_token"),
        ("api_bases", "api_base"),
        ("api_keyy", "api_key"),
        ("custom_llm_providers", "custom_llm_provider"),
    ],
)
def test_a_misspelling_is(name: str, meant: str) -> None:
    assert said(**{name: 1})[name][1].endswith(f"did you mean {meant}?")


def test_a_models_own_fallbacks_are_listed_too() -> None:
    (path,) = said(fallbacks=["b"])

    assert path == "fallbacks b"


def test_what_litellm_would_forbid_and_we_do_not_is_a_warning() -> None:
    entry = ModelEntry.model_validate(
        {
            "model_name": "m",
            "litellm_params": {"model": "openai/x"},
            "model_info": {"team_id": "t", "blocked": False},
        }
    )
    config = Config.model_validate(
        {
            "general_settings": {"allowed_ips": ["10.0.0.1"], "enforce_user_param": False},
            "litellm_settings": {"max_budget": 0},
        }
    )

    warned = [n.path for n in (*unused_in_entry(0, entry), *unused_in_sections(config))]

    assert warned == ["model_list[0].model_info.team_id", "general_settings.allowed_ips"]
    assert {n.kind for n in unused_in_entry(0, entry)} == {NoticeKind.WARNING}
