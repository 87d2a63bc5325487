from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from embedpool_shared.config.file import LoadedConfig, load_config
from embedpool_shared.config.notices import NoticeKind
from embedpool_shared.config.settings import Config
from embedpool_shared.errors import ConfigInvalid

LOOK_FOR = "look for wrong indentation, tabs or a missing quote"
Load = Callable[..., LoadedConfig]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Write a file and load it, with the environment as keyword arguments."""

    def loaded(text: str, **environ: str) -> LoadedConfig:
        file = tmp_path / "config.yaml"
        file.write_text(text)
        return load_config(file, environ)

    return loaded


def _reasons(loaded: LoadedConfig, kind: NoticeKind) -> dict[str, str]:
    return {n.path: n.reason for n in loaded.notices if n.kind is kind}


def _problem(load: Load, text: str, **environ: str) -> str:
    with pytest.raises(ConfigInvalid) as caught:
        load(text, **environ)
    return caught.value.message.partition("config.yaml: ")[2]


def test_without_a_file_everything_is_at_its_default() -> None:
    loaded = load_config(None, {})

    assert loaded == LoadedConfig(Config(), (), None)


def test_an_empty_file_is_a_configuration_too(load: Load) -> None:
    assert load("").config == Config()


def test_the_environment_can_name_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("pool: {linger_ms: 7}")

    loaded = load_config(None, {"EMBEDPOOL_CONFIG": str(file)})

    assert loaded.config.pool.linger_ms == 7
    assert loaded.path == str(file)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("pool: {lingr_ms: 3}", "pool.lingr_ms: no such setting; did you mean linger_ms?"),
        ("pool: {quux: 3}", "pool.quux: no such setting"),
        ("pol: {}", "pol: no such section; did you mean pool?"),
        ("pool: {linger_ms: -1}", "pool.linger_ms: should be greater than or equal to 0, not -1"),
        ("cache: {ttl_s: .inf}", "cache.ttl_s: should be a finite number, not inf"),
        ("pool: {slots_per_key: true}", "pool.slots_per_key: should be a number, not a switch"),
        ("pool: {share_across: x}", "pool.share_across: should be 'all', 'team' or 'key'"),
        ("redis: redis://h", "redis: should be a mapping of settings"),
        ("model_list: {a: b}", "model_list: should be a list"),
        ("model_list: [{model_name: a}]", "model_list[0].litellm_params: is required"),
        ("unlisted_providers: openai", "unlisted_providers: should be a list"),
        (
            "metrics: {api_port: -1}",
            "metrics.api_port: should be greater than or equal to 0, not -1",
        ),
        ("auth: {secret: short}", "auth.secret: should be at least 16 characters long"),
        (
            "general_settings: {master_key: 1234}",
            "general_settings.master_key: is read as a number by YAML: put it in quotes",
        ),
        (
            'general_settings: {master_key: " "}',
            "general_settings.master_key is empty: set it, or remove the line",
        ),
        ("- a", "should hold settings by name (`model_list:` …) at its top"),
        ("a: [", f"is not valid YAML in line 1, column 5; {LOOK_FOR}"),
        ("a: !!python/object:os.system {}", f"is not valid YAML in line 1, column 4; {LOOK_FOR}"),
        ("a: 2024-13-45\nb: !!int x", "is not usable YAML: a value nobody can read"),
        ("a: " + "[" * 3_000, "is not usable YAML: a value nobody can read"),
        ("a: " + "[" * 40 + "]" * 40, "a" + "[0]" * 26 + "[…: nested too deeply"),
    ],
)
def test_what_is_wrong_is_named_with_what_would_be_right(
    load: Load, text: str, problem: str
) -> None:
    assert _problem(load, text) == problem


def test_every_problem_is_named_at_once(load: Load) -> None:
    problem = _problem(load, "pool: {linger_ms: -1, lease_s: 0}")

    assert "pool.linger_ms" in problem
    assert "pool.lease_s" in problem


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=r"nowhere\.yaml: cannot be read: No such file"):
        load_config(tmp_path / "nowhere.yaml", {})


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(b"a: \xff")

    with pytest.raises(ConfigInvalid, match="not UTF-8"):
        load_config(file, {})


def test_metrics_beyond_loopback_want_a_token(load: Load) -> None:
    assert "set metrics.token" in _problem(load, "metrics: {host: 0.0.0.0}")
    assert load("metrics: {host: 0.0.0.0, token: abcdefgh}").config.metrics.token is not None


def test_a_date_is_read_as_the_text_it_was_written_as(load: Load) -> None:
    loaded = load(
        "model_list: [{model_name: a, litellm_params: {model: azure/x, api_version: 2024-02-01}}]"
    )

    assert loaded.config.model_list[0].litellm_params.api_version == "2024-02-01"


def test_a_name_written_twice_is_a_warning_with_its_line(load: Load) -> None:
    loaded = load("pool: {linger_ms: 1}\npool: {linger_ms: 2}\n")

    assert loaded.config.pool.linger_ms == 2
    assert _reasons(loaded, NoticeKind.WARNING) == {
        "pool": "written again in line 2; only the last one counts"
    }


def test_a_null_means_absent(load: Load) -> None:
    assert load("pool:\nredis: {url: }\nmodel_list:\n").config == Config()


# os.environ/NAME


def test_a_reference_is_replaced_wherever_it_stands(load: Load) -> None:
    loaded = load(
        "pool: {linger_ms: os.environ/L}\nunlisted_providers: [os.environ/P]\n"
        "router_settings: {model_group_alias: {small: os.environ/M}}",
        L="9",
        P="cohere",
        M="big",
    )

    assert loaded.config.pool.linger_ms == 9
    assert loaded.config.unlisted_providers == ("cohere",)
    assert loaded.config.router_settings.aliases() == {"small": "big"}


def test_a_key_whose_name_is_not_set_is_missing_and_nothing_takes_its_place(load: Load) -> None:
    loaded = load(
        "model_list: [{model_name: a, litellm_params: {model: openai/x, api_key: os.environ/K}}]",
        OPENAI_API_KEY="sk-other",
    )

    params = loaded.config.model_list[0].litellm_params
    assert params.names_key
    assert params.secrets() == ()
    assert _reasons(loaded, NoticeKind.WARNING) == {
        "model_list[0].litellm_params.api_key": (
            "the environment variable K is not set, so this counts as missing"
        )
    }


def test_keys_that_are_set_are_used_and_the_others_left_out(load: Load) -> None:
    loaded = load(
        "model_list: [{model_name: a, litellm_params: "
        "{model: openai/x, api_keys: [os.environ/K1, os.environ/K2, literal]}}]",
        K2="two",
    )

    assert loaded.config.model_list[0].litellm_params.secrets() == ("two", "literal")


def test_a_master_key_whose_name_is_not_set_refuses_to_start(load: Load) -> None:
    text = "general_settings: {master_key: os.environ/PROXY_KEY}"

    assert "PROXY_KEY, which is not set" in _problem(load, text)
    assert "PROXY_KEY, which is not set" in _problem(load, text, PROXY_KEY="")
    assert "PROXY_KEY" in _problem(load, text, LITELLM_MASTER_KEY="sk-other-master-key")


def test_our_master_key_stands_in_for_one_that_is_not_set(load: Load) -> None:
    loaded = load(
        "general_settings: {master_key: os.environ/PROXY_KEY}",
        EMBEDPOOL_MASTER_KEY="sk-a-good-master-key",
    )

    assert loaded.config.master_key is not None
    assert loaded.config.master_key.get_secret_value() == "sk-a-good-master-key"


def test_environment_variables_of_the_file_are_looked_up_first(load: Load) -> None:
    loaded = load(
        "environment_variables: {K: from-file, N: 3}\n"
        "model_list: [{model_name: a, litellm_params: {model: openai/x, api_key: os.environ/K}}]",
        K="from-outside",
    )

    assert loaded.config.model_list[0].litellm_params.secrets() == ("from-file",)
    assert loaded.config.environ({"K": "x", "Z": "z"}) == {"K": "from-file", "N": "3", "Z": "z"}


# what is derived


def test_the_request_timeout_is_litellms_else_a_minute(load: Load) -> None:
    assert load("").config.request_timeout_s == 60
    assert load("litellm_settings: {request_timeout: 12}").config.request_timeout_s == 12


def test_the_routers_retries_win(load: Load) -> None:
    assert load("").config.max_retries == 2
    assert load("litellm_settings: {num_retries: 0}").config.max_retries == 0
    both = "litellm_settings: {num_retries: 5}\nrouter_settings: {num_retries: 1}"
    assert load(both).config.max_retries == 1


def test_the_cache_is_on_by_either_section(load: Load) -> None:
    theirs = "litellm_settings: {cache: true, cache_params: {ttl: 60, type: redis}}"

    assert load("").config.cache_ttl_s == 0
    assert load("cache: {ttl_s: 5}").config.cache_ttl_s == 5
    assert load(theirs).config.cache_ttl_s == 60
    assert load("litellm_settings: {cache: true}").config.cache_ttl_s == 3_600


def test_every_setting_of_ours_has_an_effect(load: Load) -> None:
    loaded = load(
        "cache: {ttl_s: 5}\nauth: {key_prefix: gr-}\nmetrics: {api_port: 0}\n"
        "pool: {share_across: key, forward_user: true}\nrouter_settings: {cooldown_time: 7}\n"
        "litellm_settings: {cache: true}\nfiles: {url: 's3://bucket'}"
    )

    assert _reasons(loaded, NoticeKind.IGNORED) == {}


# what LiteLLM's sections hold besides


def test_what_is_not_used_is_listed_with_a_suggestion_where_it_is_near(load: Load) -> None:
    loaded = load(
        "litellm_settings: {drop_param: true, callbacks: [langfuse]}\n"
        "general_settings: {database_url: postgres://canary, alerting: [slack]}\n"
        "router_settings: {redis_host: r}\n"
        "callback_settings: {otel: {}}\n"
        "model_lists: []"
    )

    assert _reasons(loaded, NoticeKind.IGNORED) == {
        "callback_settings": "not used here",
        "model_lists": "not used here; did you mean model_list?",
        "litellm_settings.drop_param": "not used here; did you mean drop_params?",
        "litellm_settings.callbacks": (
            "what happens shows in the metrics, the log and /spend/logs"
        ),
        "router_settings.redis_host": "the queue's Redis is redis.url",
        "general_settings.database_url": "keys and spend live in Redis",
        "general_settings.alerting": "alerts are made from the metrics, by Prometheus",
    }


def test_fallbacks_to_other_models_are_listed_with_their_routes(load: Load) -> None:
    loaded = load(
        "router_settings: {fallbacks: [{a: [b, c]}]}\nlitellm_settings: {default_fallbacks: [d]}"
    )

    assert list(_reasons(loaded, NoticeKind.IGNORED)) == [
        "litellm_settings.default_fallbacks d",
        "router_settings.fallbacks a→b,c",
    ]


def test_an_alias_may_have_litellms_long_form(load: Load) -> None:
    loaded = load("router_settings: {model_group_alias: {a: {model: b, hidden: true}, c: d}}")

    assert loaded.config.router_settings.aliases() == {"a": "b", "c": "d"}


def test_a_circle_of_aliases_stops_the_start(load: Load) -> None:
    problem = _problem(load, "router_settings: {model_group_alias: {a: B_, b: A}}")

    assert problem == "router_settings.model_group_alias: a circle, a → b → a"


# secrets


CANARY_FILE = """
model_list:
  - model_name: a
    litellm_params:
      model: openai/x
      api_key: canary-1
      api_keys: [canary-2]
      api_base: https://user:canary-3@host/v1
      aws_secret_access_key: canary-4
      unheard_of: canary-5
    model_info: {whatever: canary-6}
litellm_settings: {success_callback: canary-7, cache_params: {password: canary-8}}
router_settings: {redis_password: canary-9}
general_settings: {master_key: canary-10, database_url: postgres://canary-11}
environment_variables: {LANGFUSE_KEY: canary-12}
auth: {secret: canary-13-canary-13, old_secrets: [canary-14-canary-14]}
redis: {url: "rediss://:canary-15@h", lanes_url: "redis://:canary-16@h"}
http: {proxy: "http://u:canary-17@h"}
metrics: {token: canary-18}
cache: {url: "redis://:canary-19@h"}
credential_list: [canary-20]
"""


def test_no_repr_and_no_notice_holds_a_secret(load: Load) -> None:
    loaded = load(CANARY_FILE)

    assert "canary" not in repr(loaded)
    assert "canary" not in str(loaded.config)


@pytest.mark.parametrize(
    "text",
    [
        "redis: rediss://:canary@h",
        "redis: {url: 'http://canary@h'}",
        "auth: {secret: canary}",
        "auth: {old_secrets: [canary]}",
        "metrics: {token: canary}",
        "metrics: {api_port: canary}",
        "pool: {linger_ms: canary, share_across: canary}",
        "general_settings: canary",
        "general_settings: {master_key: [canary]}",
        "model_list: [{model_name: a, litellm_params: {model: x, api_key: [canary]}}]",
        "model_list: [{model_name: a, litellm_params: {model: x, rpm: canary}}]",
        "api_key: *canary",
        "api_key: 'canary",
        "a: canary: canary",
        "canary",
    ],
)
def test_no_error_message_holds_a_value(load: Load, text: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load(text)

    assert "canary" not in str(caught.value)
    assert caught.value.__suppress_context__
