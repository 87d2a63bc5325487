"""Answers hold each caller's vectors, bit for bit, in order, with indices from 0."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_api.response import (
    answer_headers,
    debug_headers,
    header_value,
)
from embedpool_shared.embedding.answer import (
    MAX_CHUNK_FLOATS,
    Part,
    embedding_body,
    embedding_chunks,
    is_small,
)
from embedpool_shared.jobs import CallTrace, JobReply

DIMS = 3
floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
vectors = st.lists(st.lists(floats, min_size=DIMS, max_size=DIMS), min_size=1, max_size=5)


def packed(jobs: list[list[list[float]]]) -> list[Part]:
    return [(np.array(job, dtype="<f4").tobytes(), DIMS) for job in jobs]


@given(st.lists(vectors, min_size=1, max_size=4), st.booleans())
def test_an_answer_reads_back_as_the_vectors_it_was_made_of(
    jobs: list[list[list[float]]], is_base64: bool
) -> None:
    body = embedding_body(packed(jobs), is_base64=is_base64, model='a"\né', prompt_tokens=7)

    answer = json.loads(body)
    expected = np.array([vector for job in jobs for vector in job], dtype="<f4")
    found = [item["embedding"] for item in answer["data"]]
    read = [np.frombuffer(base64.b64decode(x), "<f4") for x in found] if is_base64 else found
    assert np.array(read, dtype="<f4").tobytes() == expected.tobytes()
    assert [item["index"] for item in answer["data"]] == list(range(len(expected)))
    assert {item["object"] for item in answer["data"]} == {"embedding"}
    assert answer["object"] == "list"
    assert answer["model"] == 'a"\né'
    assert answer["usage"] == {"prompt_tokens": 7, "total_tokens": 7}


@pytest.mark.parametrize("is_base64", [False, True])
def test_a_large_answer_comes_in_pieces_of_bounded_work(is_base64: bool) -> None:
    dims = 1_024
    parts = [(bytes(dims * 4 * 64), dims)] * 16

    chunks = list(embedding_chunks(parts, is_base64=is_base64, model="m", prompt_tokens=1))

    assert not is_small(parts, is_base64=is_base64)
    assert len(chunks) > (2 if is_base64 else 16 * 64 * dims // MAX_CHUNK_FLOATS - 1)
    assert b"".join(chunks) == embedding_body(
        parts, is_base64=is_base64, model="m", prompt_tokens=1
    )


@pytest.mark.parametrize("is_base64", [False, True])
def test_a_small_answer_is_one_piece(is_base64: bool) -> None:
    parts = [(bytes(1_536 * 4), 1_536)]

    assert is_small(parts, is_base64=is_base64)
    assert len(list(embedding_chunks(parts, is_base64=is_base64, model="m", prompt_tokens=1))) == 1


@pytest.mark.parametrize(
    ("pico_usd", "written"),
    [
        (0, b"0.0"),
        (20_000, b"0.000000020000"),
        (10**12, b"1.0"),
        (1_500_000_000_000, b"1.500000000000"),
    ],
)
def test_a_cost_is_written_exactly_and_without_an_exponent(pico_usd: int, written: bytes) -> None:
    headers = dict(
        answer_headers(length=12, processing_ms=3.9, call_id="r", model="m", cost_pico_usd=pico_usd)
    )

    assert headers[b"x-embedpool-cost-usd"] == headers[b"x-litellm-response-cost"] == written
    assert headers[b"content-length"] == b"12"
    assert headers[b"openai-processing-ms"] == b"3"


def test_an_answer_of_unknown_length_announces_none() -> None:
    headers = answer_headers(length=None, processing_ms=0, call_id="r", model="m", cost_pico_usd=0)

    assert b"content-length" not in dict(headers)


@given(st.text())
def test_no_text_can_break_out_of_a_header(text: str) -> None:
    value = header_value(text)

    assert all(32 <= byte < 127 for byte in value)
    assert len(value) == len(text)


def reply(queue_ms: float, trace: CallTrace | None) -> JobReply:
    return JobReply(number=0, vectors=b"", dims=1, tokens=1, queue_ms=queue_ms, trace=trace)


def test_debug_headers_tell_of_the_job_that_took_longest() -> None:
    quick = CallTrace("m", "openai", "eu", items=9, requests=9, tries=1, provider_ms=5.0)
    slow = CallTrace("m", "azure", "us", items=3, requests=2, tries=4, provider_ms=50.25)

    headers = dict(debug_headers([reply(20.0, quick), reply(1.5, slow), reply(2.0, None)], items=3))

    assert headers == {
        b"x-embedpool-queue-ms": b"1.50",
        b"x-embedpool-cache": b"miss",
        b"x-embedpool-provider-ms": b"50.25",
        b"x-embedpool-batch-items": b"3",
        b"x-embedpool-batch-requests": b"2",
        b"x-embedpool-provider": b"azure",
        b"x-embedpool-deployment": b"us",
        b"x-embedpool-tries": b"4",
    }


@pytest.mark.parametrize(("cached", "outcome"), [(0, b"miss"), (1, b"partial"), (2, b"hit")])
def test_debug_headers_tell_how_much_came_from_the_cache(cached: int, outcome: bytes) -> None:
    answered = JobReply(0, b"", 1, 2, cached=cached)

    assert dict(debug_headers([answered], items=2))[b"x-embedpool-cache"] == outcome


def test_debug_headers_do_without_a_call() -> None:
    assert dict(debug_headers([reply(2.0, None)], items=1))[b"x-embedpool-queue-ms"] == b"2.00"
