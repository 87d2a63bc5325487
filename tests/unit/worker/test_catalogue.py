from __future__ import annotations

import pytest
from msgspec import structs

from embedpool_shared.catalog import (
    ANY_DIMENSIONS,
    Catalog,
    ModelCard,
    catalog_from,
    encode_catalog,
)
from embedpool_shared.config.litellm_sections import ModelInfo
from embedpool_worker.fleet.catalogue import (
    FIELD_OF,
    catalogue,
    unserved_names,
    with_learned_caps,
)
from embedpool_worker.fleet.groups import build_fleet
from embedpool_worker.learned_caps import CapName, LearnedCaps
from embedpool_worker.providers.cap_words import CapKind
from unit.worker.fleets import KNOWN, loaded, one_model


def catalog_of(text: str | None, **environ: str) -> Catalog:
    read = loaded(text, **environ)
    return catalogue(read, build_fleet(read, KNOWN, environ))


def card_of(text: str, name: str = "m", **environ: str) -> ModelCard:
    return catalog_of(text, **environ).models[name]


def test_a_card_says_what_a_request_may_look_like() -> None:
    card = card_of(one_model("openai/text-embedding-3-small", "api_key: k"))

    assert card == ModelCard(
        name="m",
        providers=("openai",),
        dimensions=1_536,
        dimensions_allowed=ANY_DIMENSIONS,
        max_item_tokens=8_192,
        max_request_tokens=300_000,
        encoding="cl100k_base",
        takes_token_ids=True,
        merges_body=True,
        price_per_token_pico_usd=20_000,
        has_credential=True,
        own_key_providers=("openai",),
        max_items_per_call=2_048,
        max_tokens_per_call=300_000,
    )


def test_the_zero_setup_model_has_its_sizes_and_names() -> None:
    catalog = catalog_of(None)

    card = catalog.models["wordllama"]
    assert (card.dimensions, card.dimensions_allowed) == (256, (128, 64))
    assert catalog.aliases == {"local": "wordllama", "default": "wordllama"}
    assert catalog.providers == ("local",)


def test_a_fixed_size_is_the_cards_own_and_the_models_one_can_be_asked_for() -> None:
    card = card_of(one_model("bedrock/amazon.titan-embed-text-v2:0", "dimensions: 256"))

    assert card.dimensions == 256
    assert set(card.dimensions_allowed) == {256, 512, 1_024}


def test_the_operators_price_and_limits_win() -> None:
    info = "input_cost_per_token: 2.5e-07, max_input_tokens: 77, output_dimensions: 5"

    card = card_of(one_model("openai/text-embedding-3-small", info=info))

    assert card.price_per_token_pico_usd == 250_000
    assert card.max_item_tokens == 77
    assert card.dimensions == 5


def test_a_price_may_stand_where_litellm_also_takes_it() -> None:
    assert (
        card_of(one_model("openai/x", "input_cost_per_token: 0.000001")).price_per_token_pico_usd
        == 1_000_000
    )


def test_raw_token_ids_go_only_to_who_reads_them_alike() -> None:
    elsewhere = one_model("openai/bge-m3", "api_base: http://tei/v1")
    native = one_model(
        "hosted_vllm/x", "api_base: http://v", info="native_token_ids: true, token_encoding: o200k"
    )

    assert not card_of(elsewhere).takes_token_ids
    assert card_of(native).takes_token_ids
    assert card_of(native).token_encoding == "o200k"


def test_raw_token_ids_stay_home_when_the_environment_sends_openai_elsewhere() -> None:
    text = one_model("openai/text-embedding-3-small", "api_key: k")

    assert card_of(text, OPENAI_BASE_URL="https://api.openai.com/v1").takes_token_ids
    assert not card_of(text, OPENAI_BASE_URL="http://gateway/v1").takes_token_ids


def test_a_model_without_a_usable_key_says_so() -> None:
    assert not card_of(one_model("openai/x")).has_credential


def test_a_group_promises_what_all_of_it_can_do() -> None:
    text = """
model_list:
  - model_name: m
    litellm_params: {model: openai/text-embedding-3-small, api_key: k}
  - model_name: m
    litellm_params: {model: openai/text-embedding-3-small, api_base: "http://gateway/v1"}
    model_info: {max_tokens_per_item: 512, input_cost_per_token: 3.0e-06}
"""

    card = card_of(text)

    assert card.providers == ("openai",)
    assert card.max_item_tokens == 512
    assert not card.takes_token_ids
    assert card.price_per_token_pico_usd == 3_000_000
    assert card.has_credential


def test_wildcards_are_cards_of_their_own() -> None:
    catalog = catalog_of(one_model("openai/*", "api_key: k", name="openai/*"))

    (wildcard,) = catalog.wildcards
    assert (wildcard.name, wildcard.is_wildcard, wildcard.dimensions) == ("openai/*", True, None)
    assert not catalog.models["openai/text-embedding-3-small"].is_wildcard


def test_both_names_of_an_unlisted_model_lead_to_one_card() -> None:
    catalog = catalog_of("pool: {}", OPENAI_API_KEY="k")

    assert catalog.aliases["textembedding3small"] == "openai/text-embedding-3-small"
    assert "openai/text-embedding-3-small" in catalog.models


def test_a_listed_model_keeps_its_name_from_an_unlisted_one() -> None:
    text = "model_list: [{model_name: text_embedding_3_small, litellm_params: {model: cohere/x}}]"

    catalog = catalog_of(text, OPENAI_API_KEY="k")

    assert "textembedding3small" not in catalog.aliases


ALIASES = (
    one_model("openai/x", "api_key: k")
    + """
router_settings:
  model_group_alias: {Big-One: small_one, small-one: M, chat: gpt-4o}
llm: {default_embedding_model: %s}
"""
)


def test_aliases_are_folded_and_followed_to_their_end() -> None:
    assert catalog_of(ALIASES % "m").aliases == {"bigone": "m", "smallone": "m"}


@pytest.mark.parametrize(
    ("default", "listed"),
    [("m", []), ("SMALL_one", []), ("m@openai", []), ("nope", ["llm.default_embedding_model"])],
)
def test_names_that_lead_nowhere_are_listed(default: str, listed: list[str]) -> None:
    read = loaded(ALIASES % default)

    notices = unserved_names(read, build_fleet(read, KNOWN, {}))

    assert [n.path for n in notices] == ["router_settings.model_group_alias.chat", *listed]


def test_an_alias_may_lead_to_an_unlisted_model() -> None:
    text = "router_settings: {model_group_alias: {small: text-embedding-3-small}}"

    assert catalog_of(text, OPENAI_API_KEY="k").aliases["small"] == "openai/text-embedding-3-small"


def test_a_catalogue_crosses_redis_whole() -> None:
    catalog = catalog_of(None, OPENAI_API_KEY="k", COHERE_API_KEY="c")

    blob = encode_catalog(catalog)

    read = catalog_from(blob)
    assert read.aliases == catalog.aliases
    assert read.models.keys() == catalog.models.keys()
    assert b'"k"' not in blob


def test_a_card_says_what_its_providers_refusals_taught() -> None:
    read = loaded(one_model("openai/text-embedding-3-small", "api_key: k"))
    fleet = build_fleet(read, KNOWN, {})
    catalog = catalogue(read, fleet)
    (place,) = fleet.deployments_of("m", "m")
    learned = LearnedCaps()
    learned.learn(CapName(place.id, CapKind.ITEMS, is_named=True), 10, now=0.0)
    learned.learn(CapName(place.id, CapKind.ITEMS, is_named=False), 12, now=0.0)
    learned.learn(CapName(place.id, CapKind.CALL_BYTES, is_named=True), 9_000, now=0.0)

    card = with_learned_caps(catalog, fleet, learned).models["m"]

    assert card.learned_caps == {"max_items_per_call": 10, "max_bytes_per_call": 9_000}
    assert (card.max_items_per_call, card.max_tokens_per_call) == (10, 300_000)
    assert card.max_bytes_per_call == 9_000
    assert catalog_from(encode_catalog(with_learned_caps(catalog, fleet, learned))).models["m"] == (
        card
    )


def test_a_cap_above_the_configured_one_is_shown_and_binds_nothing() -> None:
    read = loaded(one_model("mistral/mistral-embed", "api_key: k"))
    fleet = build_fleet(read, KNOWN, {})
    (place,) = fleet.deployments_of("m", "m")
    learned = LearnedCaps()
    learned.learn(CapName(place.id, CapKind.ITEMS, is_named=True), 4_096, now=0.0)

    card = with_learned_caps(catalogue(read, fleet), fleet, learned).models["m"]

    assert (card.max_items_per_call, card.learned_caps) == (128, {"max_items_per_call": 4_096})


def test_without_anything_learned_the_catalogue_stays_as_it_is() -> None:
    read = loaded(one_model("openai/text-embedding-3-small", "api_key: k"))
    fleet = build_fleet(read, KNOWN, {})

    assert with_learned_caps(catalogue(read, fleet), fleet, LearnedCaps()) == catalogue(read, fleet)


def test_every_cap_is_a_field_of_the_card_and_a_setting() -> None:
    assert set(FIELD_OF) == set(CapKind)
    assert set(FIELD_OF.values()) <= {field.name for field in structs.fields(ModelCard)}
    assert set(FIELD_OF.values()) <= set(ModelInfo.model_fields)
