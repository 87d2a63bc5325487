from __future__ import annotations

import pytest

from embedpool_worker.providers.cap_words import CapKind, NamedCap, cap_named


@pytest.mark.parametrize(
    ("message", "kind", "number"),
    [
        ("Too many tokens overall, split into more batches. Max is 16384", "call_tokens", 16_384),
        ("batch size is invalid, it should not be larger than 10.: input.contents", "items", 10),
        ("List should have at most 1024 items after validation, not 2000", "items", 1_024),
        ("invalid request: total number of texts must be at most 96 - received 97", "items", 96),
        ("array too long. Expected an array with maximum length 2048, got 3000", "items", 2_048),
        ("Array has maximum length 96", "items", 96),
        ("batch size 64 > maximum allowed batch size 32", "items", 32),
        ("Requested 400000 tokens, max 300000 tokens per request", "call_tokens", 300_000),
        ("The batch size limit is 1000. Your batch size is 1001.", "items", 1_000),
        (
            "The max allowed tokens per submitted batch is 120000. Your batch has 130000 tokens",
            "call_tokens",
            120_000,
        ),
        ("* BatchEmbedContentsRequest: at most 100 requests can be in one batch", "items", 100),
        ("250 instance(s) is allowed per prediction. Actual: 300", "items", 250),
        (
            "The input token count is 25000 but the model supports up to 20000",
            "call_tokens",
            20_000,
        ),
        ("#/texts: expected maximum item count: 96, found: 128", "items", 96),
        ("Request payload size exceeds the limit: 4194304 bytes.", "call_bytes", 4_194_304),
        ("batch is too large", "items", None),
    ],
)
def test_a_cap_is_recognised_with_the_number_it_names(
    message: str, kind: str, number: int | None
) -> None:
    assert cap_named(message) == NamedCap(CapKind(kind), number)


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 8192 tokens, however you requested 9000 tokens",
        "`inputs` must have less than 512 tokens. Given: 600",
        "expected maxLength: 2048, actual: 3000",
        "dimensions must be at most 1536",
        "encoding_format base64 is not supported",
        "The model `x` does not exist",
        "",
    ],
)
def test_what_is_about_one_input_or_something_else_is_no_cap(message: str) -> None:
    assert cap_named(message) is None
