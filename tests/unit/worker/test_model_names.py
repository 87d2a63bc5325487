from __future__ import annotations

import pytest

from embedpool_shared.errors import ConfigInvalid
from embedpool_worker.fleet.model_names import KnownModels, ModelPlace, place_of
from embedpool_worker.providers.price_map import PriceEntry

KNOWN = KnownModels(
    {
        name: PriceEntry(model=name, provider=provider)
        for name, provider in {
            "text-embedding-3-small": "openai",
            "embed-english-v3.0": "cohere",
            "voyage/voyage-3": "voyage",
            "amazon.titan-embed-text-v2:0": "bedrock",
        }.items()
    },
    {"gpt-4o": "chat", "azure/gpt-4": "chat"},
)


@pytest.mark.parametrize(
    ("written", "place"),
    [
        ("openai/text-embedding-3-small", ModelPlace("openai", "text-embedding-3-small")),
        ("text-embedding-3-small", ModelPlace("openai", "text-embedding-3-small")),
        ("embed-english-v3.0", ModelPlace("cohere", "embed-english-v3.0")),
        ("voyage/voyage-3", ModelPlace("voyage", "voyage-3")),
        ("huggingface/microsoft/codebert", ModelPlace("huggingface", "microsoft/codebert")),
        ("openai/*", ModelPlace("openai", "*")),
        ("*", ModelPlace("*", "*")),
        ("wordllama/wordllama", ModelPlace("local", "wordllama")),
        ("local/wordllama", ModelPlace("local", "wordllama")),
        ("who-knows", None),
        ("gpt-4o", None),
        ("openai/", None),
        ("/x", None),
    ],
)
def test_a_name_says_whose_model_it_is(written: str, place: ModelPlace | None) -> None:
    assert place_of(written, KNOWN, has_address=False) == place


def test_an_unknown_name_at_an_address_of_its_own_is_openai_compatible() -> None:
    assert place_of("bge-m3", KNOWN, has_address=True) == ModelPlace("openai", "bge-m3")


def test_a_name_that_holds_an_address_is_refused() -> None:
    with pytest.raises(ConfigInvalid, match="put that into api_base"):
        place_of("huggingface/https://evil.example", KNOWN, has_address=False)


@pytest.mark.parametrize(
    ("place", "base_model", "mode"),
    [
        (ModelPlace("openai", "gpt-4o"), None, "chat"),
        (ModelPlace("azure", "gpt-4"), None, "chat"),
        (ModelPlace("azure", "mine"), "azure/gpt-4", "chat"),
        (ModelPlace("azure", "mine"), None, None),
        (ModelPlace("azure", "gpt-4"), "azure/text-embedding-3-small", None),
        (ModelPlace("openai", "text-embedding-3-small"), None, None),
    ],
)
def test_the_price_map_knows_what_a_model_does(
    place: ModelPlace, base_model: str | None, mode: str | None
) -> None:
    assert KNOWN.other_mode(place, base_model) == mode


@pytest.mark.parametrize(
    "place",
    [
        ModelPlace("bedrock", "amazon.titan-embed-text-v2:0"),
        ModelPlace("bedrock", "us-gov-east-1/amazon.titan-embed-text-v2:0"),
    ],
)
def test_a_region_does_not_hide_a_model(place: ModelPlace) -> None:
    entry = KNOWN.entry(place)

    assert entry is not None
    assert entry.model == "amazon.titan-embed-text-v2:0"
