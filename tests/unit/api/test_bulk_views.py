"""What is shown of files and batches is what OpenAI's clients read, and exact."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Batch as OpenAIBatch
from openai.types import FileObject as OpenAIFile

from embedpool_api.bulk.answers import BatchObject
from embedpool_api.bulk.views import batch_list, file_list, shown_batch, shown_file
from embedpool_shared.batches import (
    AT_FIELD,
    Batch,
    BatchField,
    LineProblem,
    Purpose,
    Status,
    encode_record,
)
from support.bulk_records import batch_record_of, file_record_of


def batch_of(
    number: int = 1, *, status: Status = Status.VALIDATING, **fields: str | bytes
) -> Batch:
    values = {"status": status.value, **fields}
    return Batch(
        batch_record_of(f"batch_{number}"),
        {BatchField(k): v.encode() if isinstance(v, str) else v for k, v in values.items()},
    )


@pytest.mark.parametrize("purpose", Purpose)
def test_a_file_is_one_of_openais(purpose: Purpose) -> None:
    shown = shown_file(file_record_of(purpose=purpose)).model_dump(mode="json")

    assert OpenAIFile.model_validate(shown, strict=True).to_dict() == shown
    assert shown["created_at"] == 1_800_000_000
    assert "path" not in shown
    assert "owner" not in shown


@pytest.mark.parametrize("status", Status)
def test_a_batch_is_one_of_openais(status: Status) -> None:
    shown = shown_batch(batch_of(status=status)).model_dump(mode="json")

    assert OpenAIBatch.model_validate(shown, strict=True).to_dict() == shown
    assert shown["status"] == status.value
    assert set(OpenAIBatch.model_fields) | {"embedpool"} == shown.keys()


@pytest.mark.parametrize("status", AT_FIELD)
def test_every_time_of_a_batch_is_shown_where_it_belongs(status: Status) -> None:
    field = AT_FIELD[status].value

    at: dict[str, Any] = {field: "1800000009"}
    shown = shown_batch(batch_of(status=status, **at)).model_dump()

    times = {name: value for name, value in shown.items() if name.endswith("_at")}
    assert {name for name, value in times.items() if value is not None} == {
        "created_at",
        "expires_at",
        field,
    }
    assert times[field] == 1_800_000_009


def test_counts_and_results_are_shown() -> None:
    shown = shown_batch(
        batch_of(
            total="9",
            completed="4",
            failed="1",
            tokens="123",
            model="m",
            output_file_id="file-2",
            error_file_id="file-3",
        )
    )

    assert shown.request_counts.model_dump() == {"total": 9, "completed": 4, "failed": 1}
    assert shown.usage.input_tokens == shown.usage.total_tokens == 123
    assert (shown.model, shown.output_file_id, shown.error_file_id) == ("m", "file-2", "file-3")
    assert shown.metadata is None


def test_problems_are_shown_with_their_lines() -> None:
    problems = [
        LineProblem(code="invalid_json", message="no JSON", line=17),
        LineProblem(code="empty_file", message="no lines", param="input_file_id"),
    ]

    shown = shown_batch(batch_of(status=Status.FAILED, errors=encode_record(problems)))

    assert shown.errors is not None
    assert [(one.code, one.line, one.param) for one in shown.errors.data] == [
        ("invalid_json", 17, None),
        ("empty_file", None, "input_file_id"),
    ]


@given(st.integers(0, 10**25))
def test_the_cost_is_exact(pico_usd: int) -> None:
    shown = shown_batch(batch_of(cost_pico_usd=str(pico_usd)))

    assert Decimal(shown.embedpool.cost_usd) == Decimal(pico_usd).scaleb(-12)
    assert "E" not in shown.embedpool.cost_usd


def test_whose_it_is_is_shown_only_if_wanted() -> None:
    assert shown_batch(batch_of()).embedpool.owner is None
    assert shown_batch(batch_of(), with_owner=True).embedpool.owner == "key:a"


@pytest.mark.parametrize(
    ("there", "shown", "has_more"), [(0, 0, False), (1, 1, False), (2, 2, False), (3, 2, True)]
)
def test_one_more_than_wanted_says_that_there_are_more(
    there: int, shown: int, has_more: bool
) -> None:
    files = file_list([file_record_of(f"file-{number}") for number in range(there)], limit=2)
    batches = batch_list([batch_of(number) for number in range(there)], limit=2)

    assert len(files.data) == len(batches.data) == shown
    assert files.has_more is batches.has_more is has_more
    assert files.first_id == (files.data[0].id if shown else None)
    assert batches.last_id == (batches.data[-1].id if shown else None)


def test_all_statuses_are_in_the_answer() -> None:
    schema = BatchObject.model_json_schema()

    assert set(schema["properties"]["status"]["enum"]) == {status.value for status in Status}
