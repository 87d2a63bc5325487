"""Configurations as people write them for LiteLLM's proxy start as they are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from embedpool_shared.config.notices import NoticeKind
from embedpool_worker.fleet.understanding import Understanding, understood

FILES: Final = Path(__file__).parents[1] / "support" / "litellm_configs"
ALL: Final = sorted(path.stem for path in FILES.glob("*.yaml"))
ENVIRON: Final[Mapping[str, str]] = {
    name: f"canary-{name.lower()}"
    for name in (
        "ANTHROPIC_API_KEY", "AZURE_EU", "AZURE_EU_KEY", "AZURE_FR", "COHERE_API_KEY",
        "DATABASE_URL", "GEMINI_API_KEY", "GROQ_API_KEY", "JINA_AI_API_KEY", "LF_SECRET",
        "LITELLM_MASTER_KEY", "LITELLM_SALT_KEY", "MISTRAL_API_KEY", "OPENAI_API_KEY",
        "REDIS_PASSWORD", "VOYAGE_API_KEY",
    )
} | {"AZURE_EU_BASE": "https://eu.example"}  # fmt: skip


def read(name: str, environ: Mapping[str, str] = ENVIRON) -> Understanding:
    return understood(str(FILES / f"{name}.yaml"), environ)


def said(found: Understanding, kind: NoticeKind) -> dict[str, str]:
    return {notice.path: notice.reason for notice in found.notices if notice.kind is kind}


def settings_in(node: object, path: str = "") -> Iterator[str]:
    """Name every setting of the four sections, and every other section."""
    assert isinstance(node, dict)
    for name, value in node.items():
        if name in {"litellm_settings", "router_settings", "general_settings"}:
            yield from (f"{name}.{inner}" for inner in value)
        elif name not in {"model_list", "include"}:
            yield str(name)


@pytest.mark.parametrize("name", ALL)
def test_it_starts_with_and_without_its_environment(name: str) -> None:
    assert read(name).catalog.providers
    assert read(name, {"LITELLM_MASTER_KEY": "sk-only-the-master-key"}).catalog.providers


@pytest.mark.parametrize("name", ALL)
def test_everything_in_it_is_used_or_said_once(name: str) -> None:
    found = read(name)
    config = found.loaded.config
    used = {
        f"{section}.{setting}"
        for section in ("litellm_settings", "router_settings", "general_settings")
        for setting in type(getattr(config, section)).model_fields
    } | {"environment_variables", "credential_list"}
    paths = [notice.path for notice in found.notices]
    tree = yaml.safe_load((FILES / f"{name}.yaml").read_text())

    for setting in settings_in(tree):
        mentions = [path for path in paths if path.split(" ")[0] == setting]
        is_false = setting == "general_settings.enforce_user_param"
        assert len(mentions) == (0 if is_false else 1) or setting in used, setting
    assert len(set(paths)) == len(paths)


@pytest.mark.parametrize("name", ALL)
def test_no_secret_of_it_is_said(name: str) -> None:
    found = read(name)

    assert "canary" not in repr(found)
    assert "left-over-from" not in repr(found)


def test_a_company_gets_its_embedding_models_and_its_named_credential() -> None:
    found = read("company")
    small = found.fleet.groups["text-embedding-3-small"]

    assert [one.deployment.id for one in small] == ["1", "azure/embeddings-eu"]
    assert small[1].deployment.api_base == "https://eu.example"
    assert [key.secret for key in small[1].deployment.keys] == ["canary-azure_eu_key"]
    assert small[1].deployment.api_version == "2024-10-21"
    assert "search-team-embeddings" in found.fleet.groups
    assert found.catalog.aliases == {
        "embeddings": "text-embedding-3-small",
        "hiddenone": "text-embedding-3-small",
    }


def test_a_company_hears_what_is_not_kept_to() -> None:
    assert said(read("company"), NoticeKind.WARNING).keys() == {
        "general_settings.allowed_ips",
        "general_settings.allowed_routes",
        "general_settings.custom_auth",
        "litellm_settings.max_budget",
        "litellm_settings.upperbound_key_generate_params",
        "model_list[2] (text-embedding-3-small) rpm",
        "model_list[4].litellm_params.max_budget",
        "model_list[4].model_info.team_id",
        "router_settings.provider_budget_config",
    }


@pytest.mark.parametrize(
    ("position", "name", "reason"),
    [
        (0, "gpt-4o", "its mode is chat"),
        (1, "claude-sonnet", "anthropic has no embeddings"),
        (6, "whisper", "its mode is audio_transcription"),
        (7, "rerank", "LiteLLM's price map says its mode is rerank"),
    ],
)
def test_what_does_not_embed_is_listed_with_the_reason(
    position: int, name: str, reason: str
) -> None:
    ignored = said(read("company"), NoticeKind.IGNORED)

    assert ignored[f"model_list[{position}] ({name})"] == reason


def test_a_home_serves_its_own_servers_and_every_provider_with_a_key() -> None:
    fleet = read("home").fleet

    own = {name: fleet.groups[name][0].deployment for name in ("all-minilm", "bge-m3", "nomic")}
    assert {name: one.provider for name, one in own.items()} == {
        "all-minilm": "openai",
        "bge-m3": "hosted_vllm",
        "nomic": "ollama",
    }
    assert own["bge-m3"].upstream_model == "BAAI/bge-m3"
    assert {"openai/*", "cohere/*", "gemini/*"} <= fleet.wildcards.keys()


def test_a_platform_serves_every_cloud_by_wildcard() -> None:
    found = read("clouds")

    assert list(found.fleet.wildcards) == ["bedrock/*", "openai/*", "gemini-*"]
    assert "openai/text-embedding-3-large" in found.fleet.groups
    (gecko,) = found.fleet.groups["gecko"]
    assert json.loads(gecko.deployment.options["vertex_credentials"]) == {
        "type": "service_account",
        "project_id": "my-project",
    }
    assert [one.deployment.upstream_model for one in found.fleet.groups["ada"]] == [
        "ada-eu",
        "ada-fr",
    ]
    assert found.catalog.aliases == {"textembeddingada002": "ada"}


def test_models_of_an_included_file_are_served_behind_its_own() -> None:
    assert list(read("split").fleet.groups) == ["voyage", "jina", "mistral-embed"]


def test_slips_of_the_pen_are_named_with_what_is_meant() -> None:
    ignored = said(read("split"), NoticeKind.IGNORED)

    meant: dict[str, Any] = {
        "router_setting": "router_settings",
        "litellm_settings.drop_param": "drop_params",
        "model_list[0].litellm_params.api_bases": "api_base",
        "model_list[1].model_info.max_token_per_item": "max_tokens_per_item",
    }
    assert {
        path: reason.partition("did you mean ")[2] for path, reason in ignored.items()
    }.items() >= {path: f"{name}?" for path, name in meant.items()}.items()


def test_a_credential_kept_elsewhere_leaves_its_model_without_a_key() -> None:
    found = read("split")

    assert not found.catalog.models["voyage"].has_credential
    assert found.catalog.models["jina"].has_credential
