from __future__ import annotations

import pytest

from embedpool_shared.config.environment import Setting, misspelt_names, our_settings, overlaid
from embedpool_shared.config.file import load_config
from embedpool_shared.config.settings import Config


def test_every_setting_of_ours_has_an_environment_name_of_its_own() -> None:
    names = [setting.env_name for setting in our_settings()]

    assert len(set(names)) == len(names)
    assert "EMBEDPOOL_POOL_LINGER_MS" in names
    assert "EMBEDPOOL_UNLISTED_PROVIDERS" in names


def test_settings_that_are_secret_are_known_as_such() -> None:
    assert {s.name for s in our_settings() if s.is_secret} == {
        "auth.secret",
        "auth.old_secrets",
        "redis.url",
        "redis.lanes_url",
        "redis.jobs_url",
        "http.proxy",
        "metrics.token",
        "cache.url",
        "files.url",
    }


@pytest.mark.parametrize("setting", our_settings(), ids=lambda setting: setting.env_name)
def test_the_environment_reaches_every_setting(setting: Setting) -> None:
    values = {
        "pool.linger_ms": "4",
        "pool.bulk_linger_ms": "4",
        "pool.lease_s": "4",
        "pool.max_queue_bytes": "2000000",
        "pool.max_leased_items": "100",
        "pool.share_across": "team",
        "cache.max_bytes": "2000000",
        "cache.ttl_s": "4",
        "files.url": "s3://b",
        "metrics.host": "127.0.0.2",
        "metrics.slow_request_s": "4",
    }
    default = setting.field.get_default()
    plain = "true" if isinstance(default, bool) else "12" if isinstance(default, int) else None
    guess = "redis://h" if setting.name.endswith("url") else "abcdefgh-abcdefgh"
    value = values.get(setting.name) or plain or guess

    config = load_config(None, {setting.env_name: value}).config

    assert setting.value_in(config) != default
    assert setting.value_in(Config()) == default


def test_the_environment_wins_over_the_file() -> None:
    tree = {"pool": {"linger_ms": 1, "lease_s": 2}}

    laid = overlaid(tree, {"EMBEDPOOL_POOL_LINGER_MS": "9"})

    assert laid == {"pool": {"linger_ms": "9", "lease_s": 2}}
    assert tree == {"pool": {"linger_ms": 1, "lease_s": 2}}


def test_an_empty_variable_counts_as_unset() -> None:
    assert overlaid({}, {"EMBEDPOOL_POOL_LINGER_MS": "", "REDIS_URL": ""}) == {}


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({"REDIS_URL": "redis://theirs"}, "redis://file"),
        ({"REDIS_URL": "redis://theirs", "EMBEDPOOL_REDIS_URL": "redis://ours"}, "redis://ours"),
    ],
)
def test_a_borrowed_name_fills_only_what_nobody_set(environ: dict[str, str], url: str) -> None:
    assert overlaid({"redis": {"url": "redis://file"}}, environ) == {"redis": {"url": url}}
    assert overlaid({}, {"REDIS_URL": "redis://theirs"}) == {"redis": {"url": "redis://theirs"}}


def test_a_list_is_separated_by_commas() -> None:
    config = load_config(None, {"EMBEDPOOL_UNLISTED_PROVIDERS": "openai, cohere,"}).config

    assert config.unlisted_providers == ("openai", "cohere")


def test_a_misspelt_name_is_a_warning_with_a_suggestion() -> None:
    notices = list(misspelt_names({"EMBEDPOOL_POOL_LINGR_MS": "3"}))

    assert [n.reason for n in notices] == [
        "no setting has this environment name; did you mean EMBEDPOOL_POOL_LINGER_MS?"
    ]


def test_names_that_kubernetes_invents_are_left_alone() -> None:
    invented = {
        "EMBEDPOOL_METRICS_PORT": "tcp://10.0.0.1:9400",
        "EMBEDPOOL_PORT": "tcp://10.0.0.1:4000",
        "EMBEDPOOL_REDIS_SERVICE_HOST": "10.0.0.1",
    }

    assert list(misspelt_names(invented)) == []
