"""The table of limits against what the providers publish, written out once more."""

from __future__ import annotations

from typing import Final, NamedTuple

import pytest

from embedpool_shared.catalog import ANY_DIMENSIONS
from embedpool_shared.config.litellm_sections import LitellmParams, ModelInfo
from embedpool_worker.caps import Caps
from embedpool_worker.deployments import Adapter
from embedpool_worker.fleet.assembly import Order, Served, assembled
from embedpool_worker.fleet.model_names import KnownModels, place_of
from embedpool_worker.providers.limits import HEADROOM, LIMITS, limits_for, traits_for

NO: Final = ()
ANY: Final = ANY_DIMENSIONS
COHERE_4: Final = (256, 512, 1_024, 1_536)
VOYAGE: Final = (256, 512, 1_024, 2_048)
QWEN: Final = (64, 128, 256, 512, 768, 1_024, 1_536, 2_048)
M_4: Final = 4 * 1024 * 1024


class Published(NamedTuple):
    """One line of the table."""

    model: str  # as in a configuration
    items: int
    item_tokens: int
    call_tokens: int | None
    is_asked_for_base64: bool
    dimensions: tuple[int, ...] | str
    takes_token_arrays: bool
    call_bytes: int | None = None


# fmt: off
TABLE: Final = (
    #          model                            items  a text   a call  base64  sizes    ids
    Published("openai/text-embedding-3-small",  2_048,   8_191, 300_000, True,  ANY,      True),
    Published("openai/text-embedding-3-large",  2_048,   8_191, 300_000, True,  ANY,      True),
    Published("openai/text-embedding-ada-002",  2_048,   8_191, 300_000, True,  NO,       True),
    Published("azure/our-deployment",           2_048,   8_191, 300_000, True,  ANY,      True),
    Published("azure/ada-002",                  2_048,   8_191, 300_000, True,  NO,       True),
    Published("cohere/embed-english-v3.0",         96,     512,    None, False, NO,       False),
    Published("cohere/embed-v4.0",                 96, 128_000,    None, False, COHERE_4, False),
    Published("bedrock/amazon.titan-embed-text-v1", 1,   8_192,    None, False, NO,       False),
    Published("bedrock/amazon.titan-embed-text-v2:0", 1, 8_192,    None, False,
              (256, 512, 1_024), False),
    Published("bedrock/cohere.embed-english-v3",   96,     512,    None, False, NO,       False),
    Published("bedrock/cohere.embed-v4:0",         96, 128_000,    None, False, COHERE_4, False),
    Published("vertex_ai/text-embedding-004",     250,   2_048,  20_000, False, ANY,      False),
    Published("vertex_ai/text-embedding-005",     250,   2_048,  20_000, False, ANY,      False),
    Published("vertex_ai/gemini-embedding-001",     1,   2_048,  20_000, False, ANY,      False),
    Published("gemini/gemini-embedding-001",    100,   2_048,    None, False, ANY,      False, M_4),
    Published("gemini/gemini-embedding-2",      100,   8_192,    None, False, ANY,      False, M_4),
    Published("voyage/voyage-3-large",          1_000,  32_000, 120_000, False, VOYAGE,   False),
    Published("voyage/voyage-4-large",          1_000,  32_000, 120_000, False, VOYAGE,   False),
    Published("voyage/voyage-code-3",           1_000,  32_000, 120_000, False, VOYAGE,   False),
    Published("voyage/voyage-3.5",              1_000,  32_000, 320_000, False, VOYAGE,   False),
    Published("voyage/voyage-4",                1_000,  32_000, 320_000, False, VOYAGE,   False),
    Published("voyage/voyage-3.5-lite",         1_000,  32_000, 1_000_000, False, VOYAGE, False),
    Published("voyage/voyage-law-2",            1_000,  16_000, 120_000, False, NO,       False),
    Published("mistral/mistral-embed",            128,   8_192,  16_384, False, NO,       False),
    Published("mistral/codestral-embed",          128,   8_192,  16_384, False, ANY,      False),
    Published("jina_ai/jina-embeddings-v2-base-en", 2_048, 8_192,  None, False, NO,       False),
    Published("jina_ai/jina-embeddings-v3",     2_048,   8_192,    None, False, ANY,      False),
    Published("dashscope/text-embedding-v3",       10,   8_192,    None, False, QWEN,     False),
    Published("dashscope/text-embedding-v4",       10,   8_192,    None, False, QWEN,     False),
    Published("siliconflow/BAAI/bge-m3",           64,   8_192,    None, True,  NO,       False),
    Published("oci/cohere.embed-english-v3.0",     96,     512,    None, False, NO,       False),
    Published("oci/cohere.embed-v4.0",             96, 128_000,    None, False, COHERE_4, False),
    Published("tei/BAAI/bge-m3",                   32,   8_192,    None, True,  ANY,      False),
    Published("hosted_vllm/BAAI/bge-m3",        2_048,   8_192,    None, True,  ANY,      False),
    Published("infinity/BAAI/bge-m3",           2_048,   8_192,    None, True,  ANY,      False),
    Published("ollama/nomic-embed-text",          512,   8_192,    None, False, NO,       False),
    Published("lm_studio/nomic-embed-text",       512,   8_192,    None, True,  NO,       False),
    Published("sagemaker/endpoint",                32,   8_192,    None, False, NO,       False),
    Published("huggingface/BAAI/bge-m3",           32,   8_192,    None, False, NO,       False),
    Published("databricks/databricks-gte",        150,   8_192,    None, False, NO,       False),
    Published("watsonx/ibm/slate",                512,   8_192,    None, False, NO,       False),
    Published("volcengine/doubao-embedding",      256,   8_192,    None, False, NO,       False),
    Published("openai_like/somebodys",            512,   8_192, 100_000, True,  ANY,      False),
    Published("never_heard_of/x",                 512,   8_192, 100_000, False, ANY,      False),
    Published("local/wordllama",                  512,   8_192,    None, False, (128, 64), False),
)
# fmt: on
every_line = pytest.mark.parametrize("line", TABLE, ids=[line.model for line in TABLE])


def served(model: str, *, api_base: str | None = None, **about: int) -> Served:
    known = KnownModels({}, {})
    place = place_of(model, known, has_address=False)
    assert place is not None
    order = Order(
        id="d",
        place=place,
        params=LitellmParams.model_validate({"model": model, "api_base": api_base}),
        about=ModelInfo.model_validate(about),
        timeout_s=20.0,
    )
    return assembled(order, known, {})


@every_line
def test_a_deployment_is_packed_to_what_is_published(line: Published) -> None:
    one = served(line.model)

    # Where our tokenizer is not the provider's, a sum is only an estimate.
    share = 1.0 if one.deployment.encoding else HEADROOM
    assert one.deployment.caps == Caps(
        max_items=line.items,
        max_item_tokens=line.item_tokens,
        max_call_tokens=line.call_tokens and int(line.call_tokens * share),
        max_call_bytes=line.call_bytes,
    )
    assert one.dimensions_allowed == line.dimensions
    assert one.takes_token_ids == line.takes_token_arrays


@every_line
def test_base64_is_asked_for_where_it_means_float32_and_nowhere_else(line: Published) -> None:
    one = served(line.model).deployment

    assert (one.adapter is Adapter.OPENAI_WIRE) == line.is_asked_for_base64
    assert traits_for(one.provider).number_format in {None, "float"}


@every_line
def test_an_operator_knows_better(line: Published) -> None:
    one = served(
        line.model,
        max_items_per_call=3,
        max_tokens_per_item=5,
        max_tokens_per_call=70,
        max_bytes_per_call=11,
    ).deployment

    tokens = 70 if one.encoding else 63  # a sum we can only estimate
    assert one.caps == Caps(
        max_items=3, max_item_tokens=5, max_call_tokens=tokens, max_call_bytes=11
    )


def test_every_row_of_the_limits_has_a_line_in_the_table() -> None:
    named = [line.model.partition("/") for line in TABLE]
    reached = {id(limits_for(provider, model)) for provider, _, model in named}

    assert [row for row in LIMITS if id(row) not in reached] == []


def test_a_size_the_operator_chose_is_asked_for_whatever_is_published() -> None:
    known = KnownModels({}, {})
    place = place_of("ollama/nomic-embed-text", known, has_address=False)
    assert place is not None
    params = LitellmParams(model="ollama/nomic-embed-text", dimensions=256)
    one = assembled(
        Order(id="d", place=place, params=params, about=ModelInfo(), timeout_s=1.0), known, {}
    ).deployment

    assert (one.default_dimensions, one.forwards_dimensions) == (256, True)
