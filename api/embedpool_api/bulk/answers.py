"""Files and batches as OpenAI's clients read them, and what embedpool adds. Pure."""

from __future__ import annotations

from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, Field


class FileObject(BaseModel):
    """A file."""

    id: str = Field(examples=["file-9Tq2bC4dE6fG8hJ1kL3mN5pR"])
    object: Literal["file"] = "file"
    bytes: int
    created_at: int = Field(description="Unix seconds.")
    expires_at: int = Field(description="Unix seconds: when it is deleted by itself.")
    filename: str
    purpose: Literal["batch", "batch_output"]
    status: Literal["processed"] = "processed"
    status_details: None = None


class FileDeleted(BaseModel):
    """A file that is no more."""

    id: str
    object: Literal["file"] = "file"
    deleted: bool = True


class BatchProblem(BaseModel):
    """Why a batch failed."""

    code: str
    message: str
    line: int | None = Field(description="Of the input file, from 1.")
    param: str | None


class BatchErrors(BaseModel):
    """All reasons for which a batch failed, the first hundred."""

    object: Literal["list"] = "list"
    data: list[BatchProblem]


class RequestCounts(BaseModel):
    """How far a batch is, in lines."""

    total: int
    completed: int
    failed: int


class InputTokensDetails(BaseModel):
    """What of the input was cached by the provider; embeddings have no such cache."""

    cached_tokens: int = 0


class OutputTokensDetails(BaseModel):
    """Embeddings reason nothing."""

    reasoning_tokens: int = 0


class BatchUsage(BaseModel):
    """The tokens of all lines answered so far."""

    input_tokens: int
    input_tokens_details: InputTokensDetails = InputTokensDetails()
    output_tokens: int = 0
    output_tokens_details: OutputTokensDetails = OutputTokensDetails()
    total_tokens: int


class BatchExtras(BaseModel):
    """What OpenAI does not say of a batch."""

    cost_usd: str = Field(description="Dollars so far, exact.", examples=["0.0013"])
    owner: str | None = Field(None, description="Whose it is; told to the master key.")


class BatchObject(BaseModel):
    """A batch."""

    id: str = Field(examples=["batch_9Tq2bC4dE6fG8hJ1kL3mN5pR"])
    object: Literal["batch"] = "batch"
    endpoint: str
    model: str | None = Field(description="As its lines name it.")
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    status: Literal[
        "validating",
        "failed",
        "in_progress",
        "finalizing",
        "completed",
        "expired",
        "cancelling",
        "cancelled",
    ]
    output_file_id: str | None
    error_file_id: str | None
    created_at: int = Field(description="Unix seconds, as all times here.")
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: BatchUsage
    metadata: dict[str, str] | None
    embedpool: BatchExtras


Item = TypeVar("Item", FileObject, BatchObject)


class Page(BaseModel, Generic[Item]):
    """Some of a list; the next page is behind `last_id`."""

    object: Literal["list"] = "list"
    data: list[Item]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileList(Page[FileObject]):
    """Some files."""


class BatchList(Page[BatchObject]):
    """Some batches."""
