"""Names lead to models as the contract says, and nothing else does."""

from __future__ import annotations

import pytest

from embedpool_shared.catalog import Catalog, ModelCard
from embedpool_shared.embedding.models import resolve
from embedpool_shared.errors import BadRequest, ModelNotFound
from support.cards import ANY_MISTRAL, CATALOG, LOCAL, OPENAI


@pytest.mark.parametrize(
    ("requested", "model", "lane", "provider"),
    [
        ("wordllama", "wordllama", "wordllama", ""),
        ("DEFAULT", "wordllama", "wordllama", ""),
        ("de-fault_", "wordllama", "wordllama", ""),
        ("text-embedding-3-small@openai", "text-embedding-3-small", None, "openai"),
        ("text-embedding-3-small@AZURE_EU", "text-embedding-3-small", None, "azure-eu"),
        ("Small@azureeu", "text-embedding-3-small", None, "azure-eu"),
        ("mistral/embed", "mistral/embed", "mistral/*", ""),
        ("mistral/embed@mistral", "mistral/embed", "mistral/*", "mistral"),
        ("mistral/a@b", "mistral/a@b", "mistral/*", ""),
        ("mistral/a@b@mistral", "mistral/a@b", "mistral/*", "mistral"),
        ("mine", "mistral/embed", "mistral/*", ""),
    ],
)
def test_a_name_leads_to_its_model(
    requested: str, model: str, lane: str | None, provider: str
) -> None:
    resolved = resolve(CATALOG, requested)

    assert (resolved.model, resolved.lane) == (model, lane or model)
    assert resolved.provider == provider


@pytest.mark.parametrize("requested", ["gpt-4o", "WordLlama", "mistral", "", "text-embedding"])
def test_a_name_nobody_serves_is_not_found_in_openais_words(requested: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        resolve(CATALOG, requested)

    assert caught.value.code == "model_not_found"
    assert caught.value.message.startswith(f"The model `{requested}` does not exist")


def test_an_alias_may_stand_for_a_model_at_a_provider() -> None:
    catalog = Catalog(
        models={OPENAI.name: OPENAI},
        aliases={"european": f"{OPENAI.name}@Azure_EU", "ours": "european@openai"},
        wildcards=(ModelCard(name="*", providers=("openai",), is_wildcard=True),),
        providers=("openai", "azure-eu"),
    )

    for requested, provider in (
        ("european", "azure-eu"),
        ("European", "azure-eu"),
        ("european@openai", "openai"),
        ("ours", "openai"),
    ):
        resolved = resolve(catalog, requested)
        assert (resolved.lane, resolved.provider) == (OPENAI.name, provider)


def test_an_alias_for_itself_at_a_provider_ends() -> None:
    catalog = Catalog(aliases={"a": "a@openai"}, providers=("openai",))

    with pytest.raises(ModelNotFound):
        resolve(catalog, "a")


def test_a_listed_name_with_an_at_sign_is_split_nowhere() -> None:
    odd = ModelCard(name="small@openai", providers=("local",))
    catalog = Catalog(
        models={odd.name: odd}, aliases={"odd": odd.name}, providers=("openai", "local")
    )

    for requested, provider in (
        ("odd", ""),
        ("odd@local", "local"),
        ("small@openai@local", "local"),
    ):
        resolved = resolve(catalog, requested)
        assert (resolved.card, resolved.provider) == (odd, provider)


@pytest.mark.parametrize("requested", ["mistral/", "@mistral", "mistral/@mistral"])
def test_a_star_stands_for_something(requested: str) -> None:
    with pytest.raises(ModelNotFound):
        resolve(CATALOG, requested)


def test_an_unknown_provider_is_answered_with_those_there_are() -> None:
    with pytest.raises(ModelNotFound, match="'openai', 'azure-eu', 'local'"):
        resolve(CATALOG, "text-embedding-3-small@nobody")


def test_an_unknown_model_of_a_known_provider_is_not_found_by_its_own_name() -> None:
    with pytest.raises(ModelNotFound, match="The model `gpt-4o` does not exist"):
        resolve(CATALOG, "gpt-4o@openai")


def test_a_provider_that_does_not_serve_the_model_is_told_from_those_that_do() -> None:
    with pytest.raises(ModelNotFound, match="not served by 'cohere' but by 'openai', 'azure-eu'"):
        resolve(CATALOG, "text-embedding-3-small@cohere")


@pytest.mark.parametrize(
    "requested",
    [
        "https://example.com/model",
        "mistral/http://x",
        "mistral/x://@mistral",
        "os.environ/SECRET",
        "anthropic/claude",
        "Anthropic/claude",
        "anthropic/claude@openai",
        "secret",
    ],
)
def test_what_must_never_be_called_is_a_bad_request(requested: str) -> None:
    catalog = Catalog(
        wildcards=(ModelCard(name="*", providers=("openai",), is_wildcard=True),),
        aliases={"secret": "http://example.com/"},
        providers=("openai", "mistral"),
    )

    with pytest.raises(BadRequest) as caught:
        resolve(catalog, requested)

    assert caught.value.param == "model"


def test_the_first_wildcard_that_matches_wins() -> None:
    every = ModelCard(name="*", providers=("openai",), is_wildcard=True)
    catalog = Catalog(wildcards=(ANY_MISTRAL, every), providers=("openai",))

    assert resolve(catalog, "mistral/x").card is ANY_MISTRAL
    assert resolve(catalog, "anything").card is every
    with pytest.raises(BadRequest):
        resolve(catalog, "anthropic/claude")


def test_a_wildcards_other_letters_are_literal() -> None:
    dotted = ModelCard(name="a.b/*-x", providers=("p",), is_wildcard=True)

    assert resolve(Catalog(wildcards=(dotted,)), "a.b/c-x").model == "a.b/c-x"
    with pytest.raises(ModelNotFound):
        resolve(Catalog(wildcards=(dotted,)), "aXb/c-x")


def test_an_exact_name_wins_over_an_alias_and_over_its_at_sign() -> None:
    odd = ModelCard(name="small@openai", providers=("local",))
    catalog = Catalog(
        models={"small@openai": odd, OPENAI.name: OPENAI, "default": LOCAL},
        aliases={"small": OPENAI.name, "default": OPENAI.name},
        providers=("openai",),
    )

    assert resolve(catalog, "small@openai").card is odd
    assert resolve(catalog, "default").card is LOCAL
