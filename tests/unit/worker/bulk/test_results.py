"""The lines of the output and error files are OpenAI's, and a line that is redone is the same."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_shared.embedding.answer import embedding_body
from embedpool_shared.errors import (
    BadRequest,
    BudgetExceeded,
    EmbedPoolError,
    InternalError,
    ProviderFailed,
)
from embedpool_worker.bulk.results import (
    CANCELLED,
    EXPIRED,
    Place,
    answered_line,
    refused_line,
    unanswered_line,
)

PLACE = Place("batch_abc", 7, 'id "7" é\n')
VECTORS = np.array([0.5, -1.0], dtype="<f4").tobytes()


def read(line: bytes) -> dict[str, Any]:
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    found: dict[str, Any] = json.loads(line)
    assert list(found) == ["id", "custom_id", "response", "error"]
    assert found["custom_id"] == PLACE.custom_id
    assert found["id"].startswith("batch_req_")
    return found


@pytest.mark.parametrize("is_base64", [True, False])
def test_an_answer_has_the_body_of_the_embeddings_route(is_base64: bool) -> None:
    about: dict[str, Any] = {"is_base64": is_base64, "model": 'm "x"', "prompt_tokens": 3}

    found = read(answered_line(PLACE, [(VECTORS, 2)], **about))

    assert found["error"] is None
    assert found["response"] == {
        "status_code": 200,
        "request_id": PLACE.request_id,
        "body": json.loads(embedding_body([(VECTORS, 2)], **about)),
    }


@pytest.mark.parametrize(
    ("error", "status", "content"),
    [
        (
            BadRequest("too long", param="input[0]"),
            400,
            {"message": "too long", "type": "invalid_request_error", "param": "input[0]"}
            | {"code": None},
        ),
        (
            BudgetExceeded("used up", code="budget_exceeded"),
            429,
            {"message": "used up", "type": "insufficient_quota", "param": None}
            | {"code": "budget_exceeded"},
        ),
        (
            ProviderFailed("[openai] broken"),
            502,
            {"message": "[openai] broken", "type": "upstream_error", "param": None, "code": None},
        ),
    ],
    ids=["its own", "its key's", "the provider's"],
)
def test_a_refused_line_has_the_status_and_body_of_the_embeddings_route(
    error: EmbedPoolError, status: int, content: dict[str, Any]
) -> None:
    found = read(refused_line(PLACE, error))

    assert found["error"] is None
    assert found["response"] == {
        "status_code": status,
        "request_id": PLACE.request_id,
        "body": {"error": content},
    }


def test_of_a_bug_only_its_id_is_told() -> None:
    found = read(refused_line(PLACE, InternalError("canary")))

    assert found["response"]["status_code"] == 500
    assert PLACE.request_id in found["response"]["body"]["error"]["message"]
    assert "canary" not in json.dumps(found)


@pytest.mark.parametrize("code", [EXPIRED, CANCELLED])
def test_a_line_that_was_never_answered_says_why(code: str) -> None:
    found = read(unanswered_line(PLACE, code))

    assert found["response"] is None
    assert found["error"]["code"] == code
    assert found["error"]["message"]


def test_ids_follow_from_the_batch_and_the_line() -> None:
    once, again = (unanswered_line(PLACE, EXPIRED) for _ in range(2))
    others = [PLACE._replace(number=8), PLACE._replace(batch_id="batch_x")]

    assert once == again
    assert len({PLACE.request_id, *(other.request_id for other in others)}) == 3
    assert PLACE._replace(custom_id="other").request_id == PLACE.request_id


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20))
def test_any_custom_id_comes_back_as_it_was(custom_id: str) -> None:
    line = unanswered_line(PLACE._replace(custom_id=custom_id), EXPIRED)

    assert line.count(b"\n") == 1
    assert json.loads(line)["custom_id"] == custom_id
