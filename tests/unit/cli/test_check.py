from __future__ import annotations

import io
from pathlib import Path

import pytest

from embedpool_cli.check import check
from embedpool_cli.masking import bare_address, masked

FILE = """
model_list:
  - model_name: embed
    litellm_params:
      model: openai/text-embedding-3-small
      api_keys: [sk-canary-canary-canary-1111, canary-short]
      rpm: 500
  - model_name: embed
    litellm_params:
      model: azure/prod
      api_base: https://user:canary-2@azure.example:8443/base?sig=canary-3
      api_key: os.environ/AZ
      azure_ad_token: canary-4
    model_info: {base_model: azure/text-embedding-3-small}
  - model_name: "openai/*"
    litellm_params: {model: "openai/*", api_key: canary-5}
  - model_name: gpt-4o
    litellm_params: {model: openai/gpt-4o, api_key: canary-6, temperature: 1}
litellm_settings: {callbacks: [x], fallbacks: [{embed: [other]}]}
router_settings: {model_group_alias: {small: embed}, redis_password: canary-7}
general_settings: {master_key: sk-canary-8-canary-8-zzzz}
environment_variables: {LANGFUSE: canary-9}
auth: {secret: canary-10-canary-10}
redis: {url: "rediss://u:canary-11@redis.example:6380/1"}
http: {proxy: "http://u:canary-12@proxy"}
metrics: {token: canary-13}
pool: {linger_ms: 5}
"""


def run(tmp_path: Path, text: str, **environ: str) -> tuple[int, str]:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    out = io.StringIO()
    code = check(str(file), environ, out)
    return code, out.getvalue()


def test_it_says_what_it_understood(tmp_path: Path) -> None:
    code, said = run(tmp_path, FILE, AZ="azure-key-of-some-length")

    assert code == 0
    for expected in (
        "config.yaml: good",
        "embed: 1536 dimensions; fewer on request; $0.022 per million tokens",
        "text-embedding-3-small",
        "https://azure.example:8443/base",
        "2048 items, 8191 tokens each, 300000 tokens",
        "rpm 500",
        "enforced for each key in any minute",
        "openai/*",
        "small  → embed",
        "pool.linger_ms  5.0",
        "rediss://redis.example:6380/1",
        "metrics.token",
        "model_list[3] (gpt-4o): LiteLLM's price map says its mode is chat",
        "litellm_settings.fallbacks embed→other: another model's vectors cannot stand in",
    ):
        assert expected in said


def test_a_key_is_known_by_its_last_four_characters_and_no_more(tmp_path: Path) -> None:
    _, said = run(tmp_path, FILE, AZ="azure-key-of-some-length")

    assert "sk-…1111, …" in said
    assert "…ngth" in said
    assert "canary" not in said
    assert "some-length" not in said


def test_columns_stand_under_each_other(tmp_path: Path) -> None:
    _, said = run(tmp_path, FILE, AZ="azure-key-of-some-length")

    lines = said.splitlines()
    header = next(line for line in lines if "a call takes at most" in line)
    rows = [line for line in lines if "tokens each" in line]
    assert {row.index("2048 items") for row in rows} == {header.index("a call takes at most")}


def test_an_error_is_one_and_says_what_would_be_right(tmp_path: Path) -> None:
    code, said = run(tmp_path, "pool: {lingr_ms: 3}")

    assert code == 1
    assert said.startswith("error: ")
    assert said.endswith("config.yaml: pool.lingr_ms: no such setting; did you mean linger_ms?\n")


@pytest.mark.parametrize(
    "text",
    [
        "model_list: [{model_name: m, litellm_params: {model: 'x/http://h'}}]",
        "router_settings: {model_group_alias: {a: b, b: a}}",
        "unlisted_providers: [anthropic]",
    ],
)
def test_whatever_would_stop_the_start_is_found(tmp_path: Path, text: str) -> None:
    assert run(tmp_path, text)[0] == 1


def test_without_a_file_it_shows_what_needs_no_setup() -> None:
    out = io.StringIO()

    assert check(None, {}, out) == 0
    assert "no file, environment only: good" in out.getvalue()
    assert "open: anybody on this machine may call" in out.getvalue()


def test_an_empty_section_is_left_out(tmp_path: Path) -> None:
    _, said = run(tmp_path, "unlisted_providers: []")

    assert "Aliases" not in said
    assert "Ignored" not in said
    assert "no embedding model is served" in said


@pytest.mark.parametrize(
    ("secret", "shown"),
    [
        ("", "…"),
        ("sk-short", "…"),
        ("x" * 15, "…"),
        ("x" * 12 + "abcd", "…abcd"),
        ("sk-" + "x" * 20 + "wxyz", "sk-…wxyz"),
    ],
)
def test_a_secret_shows_at_most_four_of_its_characters(secret: str, shown: str) -> None:
    assert masked(secret) == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@h:1/x?q=s#f", "https://h:1/x"),
        ("redis+sentinel://u:p@h1:1,h2:2/main/0", "redis+sentinel://h1:1,h2:2/main/0"),
        ("unix:///run/redis.sock?password=p", "unix:///run/redis.sock"),
        ("http://[::1]:8080/v1", "http://[::1]:8080/v1"),
        ("http://h:port/x", "…"),
        ("redis://u:12/secret@h", "…"),
        ("redis://u:12?secret@h", "…"),
        ("redis://:secret", "…"),
        ("u:p@h", "…"),
        ("just-a-secret", "…"),
    ],
)
def test_an_address_is_shown_without_what_it_may_hide(url: str, shown: str) -> None:
    assert bare_address(url) == shown
