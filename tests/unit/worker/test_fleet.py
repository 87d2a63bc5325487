from __future__ import annotations

import re

import pytest

from embedpool_shared.config.notices import NoticeKind
from embedpool_shared.errors import ConfigInvalid
from embedpool_worker.deployments import Adapter, Deployment
from embedpool_worker.fleet.groups import Fleet, build_fleet
from unit.worker.fleets import KNOWN, fleet_of, loaded, one_model


def _only(fleet: Fleet, name: str = "m") -> Deployment:
    (deployment,) = fleet.deployments_of(name, name)
    return deployment


def _secrets(deployment: Deployment) -> list[str]:
    return [key.secret for key in deployment.keys]


def _notices(fleet: Fleet, kind: NoticeKind) -> dict[str, str]:
    return {n.path: n.reason for n in fleet.notices if n.kind is kind}


# one entry, one deployment


def test_an_entry_becomes_a_deployment() -> None:
    text = one_model(
        "openai/text-embedding-3-small", "api_key: sk-1", "rpm: 10", "tpm: 20", "timeout: 7"
    )

    deployment = _only(fleet_of(text))

    assert deployment.id == "openai/text-embedding-3-small"
    assert deployment.provider == "openai"
    assert deployment.upstream_of("m") == "text-embedding-3-small"
    assert deployment.adapter is Adapter.OPENAI_WIRE
    assert [key.id for key in deployment.keys] == ["openai/text-embedding-3-small#1"]
    assert (deployment.rpm, deployment.tpm, deployment.timeout_s) == (10, 20, 7)
    assert deployment.native_dimensions == 1_536
    assert deployment.caps.max_items == 2_048
    assert deployment.is_callable


def test_several_keys_are_one_deployment_and_each_counts_once() -> None:
    text = one_model("openai/x", "api_key: sk-1", "api_keys: [sk-2, sk-1, '']")

    deployment = _only(fleet_of(text))

    assert _secrets(deployment) == ["sk-1", "sk-2"]
    assert [key.id for key in deployment.keys] == ["openai/x#1", "openai/x#2"]


@pytest.mark.parametrize(
    ("model", "more", "adapter"),
    [
        ("openai/x", "", Adapter.OPENAI_WIRE),
        ("azure/x", "api_base: https://a", Adapter.OPENAI_WIRE),
        ("azure/x", "api_base: https://a, azure_ad_token: t", Adapter.LITELLM),
        ("hosted_vllm/x", "api_base: http://v", Adapter.OPENAI_WIRE),
        ("infinity/x", "api_base: http://i", Adapter.OPENAI_WIRE),
        ("litellm_proxy/x", "api_base: http://l", Adapter.OPENAI_WIRE),
        ("bge-m3", "api_base: http://b", Adapter.OPENAI_WIRE),
        ("cohere/x", "", Adapter.LITELLM),
        ("sagemaker/x", "", Adapter.LITELLM),
        ("nobody-knows/x", "", Adapter.LITELLM),
        ("wordllama/wordllama", "", Adapter.LOCAL),
    ],
)
def test_the_provider_decides_the_adapter(model: str, more: str, adapter: Adapter) -> None:
    assert _only(fleet_of(one_model(model, *filter(None, [more])))).adapter is adapter


def test_model_info_overrides_published_limits() -> None:
    info = (
        "max_items_per_call: 5, max_tokens_per_item: 6, max_tokens_per_call: 7, "
        "max_bytes_per_call: 8, output_dimensions: 9, id: 'my deployment'"
    )

    deployment = _only(fleet_of(one_model("openai/text-embedding-3-small", info=info)))

    caps = deployment.caps
    assert caps.max_items == 5
    assert caps.max_item_tokens == 6
    assert caps.max_call_tokens == 7
    assert caps.max_call_bytes == 8
    assert deployment.native_dimensions == 9
    assert deployment.id == "my_deployment"


def test_a_fixed_size_is_asked_for_when_the_caller_names_none() -> None:
    deployment = _only(fleet_of(one_model("openai/text-embedding-3-small", "dimensions: 512")))

    assert deployment.default_dimensions == 512
    assert deployment.native_dimensions == 1_536


def test_options_of_the_provider_go_along_and_nothing_else() -> None:
    text = one_model(
        "bedrock/amazon.titan-embed-text-v1", "aws_region_name: us-east-1", "temperature: 1"
    )

    fleet = fleet_of(text)

    assert _only(fleet).options == {"aws_region_name": "us-east-1"}
    assert _notices(fleet, NoticeKind.IGNORED) == {
        "model_list[0].litellm_params.temperature": "not used here"
    }


def test_limits_of_a_key_are_said_to_be_enforced() -> None:
    warnings = _notices(fleet_of(one_model("openai/x", "api_key: k", "rpm: 3")), NoticeKind.WARNING)

    assert list(warnings) == ["model_list[0] (m) rpm"]
    assert "enforced for each key" in warnings["model_list[0] (m) rpm"]


def test_a_model_without_a_provider_is_served_where_the_price_map_knows_it() -> None:
    fleet = fleet_of(one_model("embed-english-v3.0"))

    assert (_only(fleet).provider, _only(fleet).upstream_model) == ("cohere", "embed-english-v3.0")


def test_ids_are_unique_and_fit_for_a_metric_label() -> None:
    entry = "{model_name: m, litellm_params: {model: 'openai/a b\"c'}}"
    fleet = fleet_of(f"model_list: [{entry}, {entry}, {entry}]")

    ids = [deployment.id for deployment in fleet.deployments_of("m", "m")]

    assert ids == ["openai/a_b_c", "openai/a_b_c-2", "openai/a_b_c-3"]


# credentials


def test_the_providers_usual_variable_is_looked_up() -> None:
    assert _secrets(_only(fleet_of(one_model("openai/x"), OPENAI_API_KEY="sk-env"))) == ["sk-env"]


def test_environment_variables_of_the_file_count_too() -> None:
    text = one_model("openai/x") + "\nenvironment_variables: {OPENAI_API_KEY: sk-file}"

    assert _secrets(_only(fleet_of(text))) == ["sk-file"]


def test_a_named_key_that_is_not_set_is_not_replaced() -> None:
    fleet = fleet_of(one_model("openai/x", "api_key: os.environ/MINE"), OPENAI_API_KEY="sk-env")

    assert _only(fleet).keys == ()
    assert not _only(fleet).is_callable


def test_a_key_from_the_environment_never_goes_to_another_server() -> None:
    text = one_model("openai/bge-m3", "api_base: http://tei:80/v1")

    deployment = _only(fleet_of(text, OPENAI_API_KEY="sk-env"))

    assert deployment.keys == ()
    assert deployment.is_callable


def test_a_missing_key_is_said_with_the_variable_that_would_do() -> None:
    fleet = fleet_of(one_model("openai/x"))

    assert not _only(fleet).is_callable
    assert _notices(fleet, NoticeKind.WARNING) == {
        "model_list[0] (m)": "no key: set litellm_params.api_key or OPENAI_API_KEY"
    }


def test_a_missing_address_is_said_and_can_come_from_the_environment() -> None:
    text = one_model("azure/x", "api_key: k")

    assert not _only(fleet_of(text)).is_callable
    deployment = _only(fleet_of(text, AZURE_API_BASE="https://a", AZURE_API_VERSION="2024-10-21"))
    assert deployment.is_callable
    assert (deployment.api_base, deployment.api_version) == ("https://a", "2024-10-21")


def test_amazons_credentials_are_left_to_amazons_library() -> None:
    deployment = _only(fleet_of(one_model("bedrock/amazon.x"), AWS_ACCESS_KEY_ID="AKIA"))

    assert deployment.keys == ()
    assert deployment.is_callable


def test_no_repr_holds_a_secret() -> None:
    text = one_model(
        "azure/x",
        "api_key: canary-1",
        "api_keys: [canary-2]",
        "api_base: https://u:canary-3@h",
        "azure_ad_token: canary-4",
    )

    assert "canary" not in repr(fleet_of(text))


# what is not served


@pytest.mark.parametrize(
    ("model", "info", "reason"),
    [
        ("openai/gpt-4o", "", "LiteLLM's price map says its mode is chat"),
        ("gpt-4o", "", "LiteLLM's price map says its mode is chat"),
        ("azure/mine", "base_model: azure/gpt-4", "LiteLLM's price map says its mode is chat"),
        ("openai/new", "mode: chat", "its mode is chat"),
        ("anthropic/claude-new", "", "anthropic has no embeddings"),
        ("anthropic/*", "", "anthropic has no embeddings"),
    ],
)
def test_what_does_not_embed_is_ignored_and_listed(model: str, info: str, reason: str) -> None:
    fleet = fleet_of(one_model(model, info=info))

    assert fleet.deployments_of("m", "m") == ()
    assert _notices(fleet, NoticeKind.IGNORED) == {"model_list[0] (m)": reason}


def test_a_model_that_nobody_knows_is_an_embedding_model() -> None:
    assert _only(fleet_of(one_model("openai/brand-new", "api_key: k"))).is_callable


def test_the_operators_mode_counts_more_than_the_price_map() -> None:
    fleet = fleet_of(one_model("openai/gpt-4o", "api_key: k", info="mode: embedding"))

    assert _only(fleet).upstream_model == "gpt-4o"


def test_anthropic_as_an_embedding_model_is_refused() -> None:
    with pytest.raises(ConfigInvalid, match="anthropic has no embeddings"):
        fleet_of(one_model("anthropic/claude", info="mode: embedding"))


def test_a_model_that_holds_an_address_is_refused_with_its_place() -> None:
    with pytest.raises(ConfigInvalid, match=r"model_list\[0\] \(m\): .*put that into api_base"):
        fleet_of(one_model("huggingface/https://h"))


def test_a_model_that_names_no_provider_is_a_warning() -> None:
    fleet = fleet_of(one_model("who-knows"))

    warnings = _notices(fleet, NoticeKind.WARNING)
    assert "write provider/who-knows" in warnings["model_list[0] (m)"]
    assert warnings["model_list"] == "no embedding model is served"


# groups


GROUP = """
model_list:
  - model_name: m
    litellm_params: {model: openai/text-embedding-3-small, api_key: k}
  - model_name: m
    litellm_params: {model: %s, api_key: k, api_base: "https://a"}
    model_info: {%s}
"""


def test_a_provider_restricts_the_choice_whatever_its_spelling() -> None:
    fleet = fleet_of(GROUP % ("azure/d", "base_model: azure/text-embedding-3-small"))

    assert [d.id for d in fleet.deployments_of("m", "m", "Az-ure")] == ["azure/d"]
    assert len(fleet.deployments_of("m", "m")) == 2
    assert fleet.deployments_of("m", "m", "cohere") == ()


def test_a_group_of_two_vector_spaces_is_refused() -> None:
    with pytest.raises(ConfigInvalid, match="cannot be compared"):
        fleet_of(GROUP % ("azure/d", "base_model: azure/text-embedding-ada-002"))
    with pytest.raises(ConfigInvalid, match="1536 dimensions"):
        fleet_of(GROUP % ("openai/other", "output_dimensions: 768"))


def test_a_group_nobody_knows_to_be_one_space_is_a_warning() -> None:
    fleet = fleet_of(GROUP % ("azure/d", ""))

    assert "model_name m" in _notices(fleet, NoticeKind.WARNING)


# wildcards


def test_a_wildcard_fills_in_what_the_caller_wrote() -> None:
    fleet = fleet_of(one_model("openai/text-*", "api_key: k", name="mine/*"))

    (deployment,) = fleet.deployments_of("mine/*", "mine/embedding-9")

    assert deployment.id == "openai/text-*"
    assert deployment.upstream_of("mine/embedding-9") == "text-embedding-9"


def test_one_deployment_serves_every_name_a_wildcard_matches() -> None:
    fleet = fleet_of(one_model("openai/*", "api_key: k", name="openai/*"))

    assert fleet.deployments_of("openai/*", "openai/a") == fleet.deployments_of(
        "openai/*", "openai/b"
    )


def test_a_wildcard_does_not_reach_chat_models() -> None:
    fleet = fleet_of(one_model("openai/*", "api_key: k", name="openai/*"))

    assert fleet.deployments_of("openai/*", "openai/gpt-4o") == ()


def test_a_name_a_wildcard_does_not_fit_has_nobody() -> None:
    fleet = fleet_of(one_model("openai/*", "api_key: k", name="openai/*"))

    assert fleet.deployments_of("openai/*", "openai/") == ()
    assert fleet.deployments_of("azure/*", "azure/x") == ()


def test_models_the_price_map_knows_have_lanes_of_their_own() -> None:
    fleet = fleet_of(one_model("openai/*", "api_key: k", name="openai/*"))

    deployment = _only(fleet, "openai/text-embedding-3-small")

    assert deployment.native_dimensions == 1_536
    assert _secrets(deployment) == ["k"]


def test_a_listed_model_is_not_mixed_with_a_wildcard() -> None:
    text = """
model_list:
  - {model_name: "openai/*", litellm_params: {model: "openai/*", api_key: wild}}
  - model_name: openai/text-embedding-3-small
    litellm_params: {model: openai/text-embedding-3-small, api_key: listed}
"""

    assert _secrets(_only(fleet_of(text), "openai/text-embedding-3-small")) == ["listed"]


def test_every_name_of_a_pattern_may_mean_one_model() -> None:
    fleet = fleet_of(one_model("openai/text-embedding-3-small", "api_key: k", name="any-*"))

    (deployment,) = fleet.deployments_of("any-*", "any-thing")
    assert deployment.upstream_of("any-thing") == "text-embedding-3-small"
    assert fleet.groups == {}


@pytest.mark.parametrize(
    ("name", "model", "reason"),
    [
        ("m", "openai/*", "not served: only its model has a *"),
        ("mine/*", "*", 'not served: the model "*" needs model_name "*"'),
    ],
)
def test_a_star_that_cannot_be_filled_in_is_a_warning(name: str, model: str, reason: str) -> None:
    fleet = fleet_of(one_model(model, "api_key: k", name=name))

    assert _notices(fleet, NoticeKind.WARNING)[f"model_list[0] ({name})"] == reason
    assert fleet.wildcards == {}


def test_wildcards_come_most_specific_first() -> None:
    text = """
model_list:
  - {model_name: "*", litellm_params: {model: "openai/*", api_key: k}}
  - {model_name: "openai/text-*", litellm_params: {model: "openai/text-*", api_key: k}}
  - {model_name: "openai/*", litellm_params: {model: "openai/*", api_key: k}}
unlisted_providers: []
"""

    assert list(fleet_of(text).wildcards) == ["openai/text-*", "openai/*", "*"]


def test_a_star_for_everything_uses_each_providers_own_key() -> None:
    fleet = fleet_of(
        one_model("*", "api_key: sk-shared", name="*"), OPENAI_API_KEY="sk-o", COHERE_API_KEY="co"
    )

    assert list(fleet.wildcards) == ["openai/*", "cohere/*"]
    assert _secrets(_only(fleet, "cohere/embed-v4.0")) == ["co"]
    assert "sk-shared" not in {
        key.secret
        for group in (*fleet.groups.values(), *fleet.wildcards.values())
        for one in group
        for key in one.deployment.keys
    }


# what is not listed


def test_without_a_file_the_local_model_is_served() -> None:
    assert _only(fleet_of(None), "wordllama").adapter is Adapter.LOCAL


@pytest.mark.parametrize(
    ("text", "master_key", "served"),
    [
        (None, "", True),
        (None, "sk-a-good-master-key", True),
        ("pool: {}", "", True),
        ("pool: {}", "sk-a-good-master-key", False),
        ("unlisted_providers: [openai]", "sk-a-good-master-key", True),
        ("unlisted_providers: []", "", False),
        ("unlisted_providers: [cohere]", "", False),
    ],
)
def test_unlisted_models_are_served_where_the_rules_allow_it(
    text: str | None, master_key: str, served: bool
) -> None:
    fleet = fleet_of(text, OPENAI_API_KEY="sk-o", EMBEDPOOL_MASTER_KEY=master_key)

    assert ("openai/text-embedding-3-small" in fleet.groups) is served
    assert ("openai/*" in fleet.wildcards) is served


def test_an_unlisted_model_has_both_of_its_names() -> None:
    fleet = fleet_of(None, OPENAI_API_KEY="sk-o", COHERE_API_KEY="c")

    assert fleet.synonyms["text-embedding-3-small"] == "openai/text-embedding-3-small"
    assert fleet.synonyms["embed-english-v3.0"] == "cohere/embed-english-v3.0"
    assert "cohere/embed-v4.0" in fleet.groups


def test_azure_is_served_unlisted_only_with_an_address() -> None:
    assert "azure/*" not in fleet_of(None, AZURE_API_KEY="k").wildcards
    assert "azure/*" in fleet_of(None, AZURE_API_KEY="k", AZURE_API_BASE="https://a").wildcards


def test_a_provider_listed_without_a_key_is_a_warning() -> None:
    fleet = fleet_of("unlisted_providers: [cohere]")

    assert not _only(fleet, "cohere/embed-v4.0").is_callable
    assert _notices(fleet, NoticeKind.WARNING) == {
        "unlisted_providers cohere": "no key: set litellm_params.api_key or COHERE_API_KEY"
    }


def test_a_provider_that_has_no_embeddings_cannot_be_listed() -> None:
    with pytest.raises(ConfigInvalid, match=re.escape("anthropic has no embeddings")):
        fleet_of("unlisted_providers: [anthropic]")


# whole files


DOCUMENTED = """
model_list:
  - model_name: sagemaker-embeddings
    litellm_params:
      model: "sagemaker/berri-benchmarking-gpt-j-6b-fp16"
  - model_name: amazon-embeddings
    litellm_params:
      model: "bedrock/amazon.titan-embed-text-v1"
  - model_name: azure-embeddings
    litellm_params:
      model: "azure/azure-embedding-model"
      api_base: "os.environ/AZURE_API_BASE" # os.getenv("AZURE_API_BASE")
      api_key: "os.environ/AZURE_API_KEY" # os.getenv("AZURE_API_KEY")
      api_version: "2023-07-01-preview"
  - model_name: deployed-codebert-base
    litellm_params:
      model: huggingface/microsoft/codebert-base
      api_key: hf_LdS
      api_base: # your hf inference endpoint
  - model_name: codebert-base
    litellm_params:
      model: huggingface/microsoft/codebert-base
      api_key: hf_LdS

general_settings:
  master_key: sk-1234 # [OPTIONAL]
"""


def test_the_proxy_documentations_example_starts_unchanged() -> None:
    fleet = fleet_of(DOCUMENTED, AZURE_API_BASE="https://a", AZURE_API_KEY="az")

    assert {name: group[0].deployment.provider for name, group in fleet.groups.items()} == {
        "sagemaker-embeddings": "sagemaker",
        "amazon-embeddings": "bedrock",
        "azure-embeddings": "azure",
        "deployed-codebert-base": "huggingface",
        "codebert-base": "huggingface",
    }
    assert all(group[0].deployment.is_callable for group in fleet.groups.values())
    assert fleet.notices == ()


def test_the_same_example_starts_without_its_environment() -> None:
    fleet = fleet_of(DOCUMENTED)

    assert not _only(fleet, "azure-embeddings").is_callable
    assert _only(fleet, "amazon-embeddings").is_callable


REAL_WORLD = """
model_list:
  - model_name: gpt-4o
    litellm_params: {model: openai/gpt-4o, api_key: os.environ/OPENAI_API_KEY, rpm: 500}
  - model_name: claude
    litellm_params: {model: anthropic/claude-sonnet, api_key: os.environ/ANTHROPIC_API_KEY}
  - model_name: "anthropic/*"
    litellm_params: {model: "anthropic/*"}
  - model_name: "openai/*"
    litellm_params: {model: "openai/*", api_key: os.environ/OPENAI_API_KEY}
  - model_name: whisper
    litellm_params: {model: whisper-1}
    model_info: {mode: audio_transcription}
  - model_name: embed
    litellm_params:
      model: azure/embed-prod
      api_base: os.environ/AZURE_API_BASE
      api_key: os.environ/AZURE_API_KEY
      api_version: 2024-02-01
      max_retries: 2
      weight: 3
    model_info: {base_model: azure/text-embedding-3-small, access_groups: [prod], id: prod-1}
litellm_settings:
  callbacks: [prometheus, langfuse]
  success_callback: [s3]
  set_verbose: false
  json_logs: true
  num_retries: 3
  request_timeout: 600
  fallbacks: [{gpt-4o: [claude]}]
  cache: true
  cache_params: {type: redis, host: os.environ/REDIS_HOST, port: 6379, ttl: 600}
router_settings:
  routing_strategy: usage-based-routing-v2
  model_group_alias: {gpt-4: gpt-4o}
  enable_pre_call_checks: true
  retry_policy: {TimeoutErrorRetries: 2}
  redis_host: os.environ/REDIS_HOST
general_settings:
  master_key: os.environ/LITELLM_MASTER_KEY
  database_url: os.environ/DATABASE_URL
  alerting: [slack]
  alerting_threshold: 300
  store_model_in_db: true
  proxy_batch_write_at: 60
environment_variables:
  LANGFUSE_PUBLIC_KEY: os.environ/LF
  SLACK_WEBHOOK_URL: https://hooks.example/x
callback_settings: {otel: {message_logging: false}}
guardrails: [{guardrail_name: x}]
"""


def test_a_real_world_proxy_file_starts_unchanged() -> None:
    fleet = fleet_of(
        REAL_WORLD,
        OPENAI_API_KEY="sk-o",
        AZURE_API_BASE="https://a",
        AZURE_API_KEY="az",
        LITELLM_MASTER_KEY="sk-a-good-master-key",
    )

    assert "embed" in fleet.groups
    assert "openai/text-embedding-3-small" in fleet.groups
    assert list(fleet.wildcards) == ["openai/*"]
    assert _only(fleet, "embed").timeout_s == 600
    assert _only(fleet, "embed").id == "prod-1"
    assert {path for path in _notices(fleet, NoticeKind.IGNORED) if "(" in path} == {
        "model_list[0] (gpt-4o)",
        "model_list[1] (claude)",
        "model_list[2] (anthropic/*)",
        "model_list[4] (whisper)",
    }


def test_without_its_package_a_listed_local_model_is_ignored_with_the_fix() -> None:
    listed = loaded(one_model("wordllama/wordllama"))

    fleet = build_fleet(listed, KNOWN, {}, has_local_model=False)

    assert not fleet.groups
    ignored = _notices(fleet, NoticeKind.IGNORED)
    assert "pip install 'embedpool[local]'" in ignored["model_list[0] (m)"]


def test_a_blocked_deployment_is_left_out() -> None:
    fleet = fleet_of(one_model("openai/x", "api_key: k", info="blocked: true"))

    assert "m" not in fleet.groups
    assert _notices(fleet, NoticeKind.IGNORED) == {"model_list[0] (m)": "model_info.blocked"}
