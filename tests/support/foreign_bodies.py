"""How providers write a question and an answer, with what they refuse. Pure.

Each function reads the fields of a request and returns what the answer holds. They refuse fields
they do not know, because most of the real ones do, and a stray field is how a secret would leave.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from support.vectors import vector_of
from support.wire_formats import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

DIMS: Final = 96
ITEM_TOKENS: Final = 3
"""What each text costs, wherever a format reports usage."""

_COHERE_KINDS: Final = ("search_document", "search_query", "classification", "clustering")
_GOOGLE_KINDS: Final = (
    "RETRIEVAL_QUERY",
    "RETRIEVAL_DOCUMENT",
    "SEMANTIC_SIMILARITY",
    "CLASSIFICATION",
    "CLUSTERING",
    "QUESTION_ANSWERING",
    "FACT_VERIFICATION",
    "CODE_RETRIEVAL_QUERY",
)
_JINA_TASKS: Final = (
    "retrieval.query",
    "retrieval.passage",
    "text-matching",
    "classification",
    "separation",
)
Fields = dict[str, Any]


def titan_v1(fields: Fields) -> Any:
    """Amazon Titan, the first: nothing but the text."""
    _only(fields, "inputText", what="extraneous key [{}] is not permitted")
    row = _row(_text(fields["inputText"]))
    return {"embedding": row, "inputTextTokenCount": ITEM_TOKENS}


def titan_v2(fields: Fields) -> Any:
    """Amazon Titan, the second; "binary" vectors are what it has besides "float"."""
    _only(
        fields,
        *("inputText", "dimensions", "normalize", "embeddingTypes"),
        what="extraneous key [{}] is not permitted",
    )
    _among(fields, "dimensions", (256, 512, 1_024))
    if fields.get("embeddingTypes", ["float"]) != ["float"]:
        raise Refused(400, "binary vectors were asked for")
    row = _row(_text(fields["inputText"]), fields.get("dimensions"))
    return {
        "embedding": row,
        "embeddingsByType": {"float": row},
        "inputTextTokenCount": ITEM_TOKENS,
    }


def bedrock_cohere_v3(fields: Fields) -> Any:
    """Cohere on Bedrock, without a size to choose."""
    if any(len(text) > 2_048 for text in fields.get("texts", [])):
        raise Refused(400, "expected maxLength: 2048, actual: more")
    return _cohere(fields)


def bedrock_cohere_v4(fields: Fields) -> Any:
    """Cohere's newer model on Bedrock."""
    return _cohere(fields, "output_dimension")


def cohere_v2(fields: Fields) -> Any:
    """Cohere itself."""
    answer = _cohere(fields, "model", "output_dimension")
    billed = {"input_tokens": ITEM_TOKENS * len(fields["texts"])}
    return {**answer, "meta": {"api_version": {"version": "2"}, "billed_units": billed}}


def _cohere(fields: Fields, *more: str) -> Fields:
    _only(fields, "texts", "input_type", "truncate", "embedding_types", *more)
    texts = _texts(fields["texts"], most=96)
    if fields.get("input_type") not in _COHERE_KINDS:
        raise Refused(400, "invalid request: valid input_type must be provided")
    if fields.get("embedding_types", ["float"]) != ["float"]:
        raise Refused(400, "other numbers than floats were asked for")
    _among(fields, "truncate", ("NONE", "START", "END", "LEFT", "RIGHT"))
    rows = _rows(texts, fields.get("output_dimension"))
    return {
        "id": "fake",
        "response_type": "embeddings_by_type",
        "embeddings": {"float": rows},
        "texts": texts,
    }


def sagemaker(fields: Fields) -> Any:
    """A HuggingFace model behind a SageMaker endpoint."""
    _only(fields, "inputs")
    return {"embedding": _rows(_texts(fields["inputs"], most=32))}


def vertex(fields: Fields, *, most: int = 250) -> Any:
    """Vertex AI's text embeddings."""
    _only(fields, "instances", "parameters")
    parameters = fields.get("parameters") or {}
    _only(parameters, "outputDimensionality", "autoTruncate", "task_type", "title")
    instances = fields["instances"]
    if len(instances) > most:
        raise Refused(
            400, f"{most} instance(s) is allowed per prediction. Actual: {len(instances)}"
        )
    for one in instances:
        _only(one, "content", "task_type", "title")
        _among(one, "task_type", _GOOGLE_KINDS)
    texts = [_text(one["content"]) for one in instances]
    rows = _rows(texts, parameters.get("outputDimensionality"))
    statistics = {"truncated": False, "token_count": ITEM_TOKENS}
    predictions = [{"embeddings": {"values": row, "statistics": statistics}} for row in rows]
    return {"predictions": predictions, "metadata": {"billableCharacterCount": 9}}


def vertex_gemini(fields: Fields) -> Any:
    """Vertex AI's Gemini embeddings: one text a call."""
    return vertex(fields, most=1)


def gemini(fields: Fields) -> Any:
    """The Gemini API's batch of embeddings."""
    _only(fields, "requests")
    if len(fields["requests"]) > 100:
        raise Refused(400, "at most 100 requests can be in one batch")
    rows = []
    for one in fields["requests"]:
        _only(one, "model", "content", "taskType", "title", "outputDimensionality")
        _among(one, "taskType", _GOOGLE_KINDS)
        [part] = one["content"]["parts"]
        rows.append(_row(_text(part["text"]), one.get("outputDimensionality")))
    return {"embeddings": [{"values": row} for row in rows]}


def voyage(fields: Fields) -> Any:
    """Voyage; its encoding_format knows no "float"."""
    names = ("input", "model", "input_type", "truncation", "output_dimension", "encoding_format")
    _only(fields, *names)
    _among(fields, "encoding_format", ("base64",))
    _among(fields, "input_type", ("query", "document"))
    return _as_openai(fields, fields.get("output_dimension"), most=1_000)


def mistral(fields: Fields) -> Any:
    """Mistral; what OpenAI calls dimensions is its output_dimension."""
    _only(fields, "input", "model", "encoding_format", "output_dimension", "metadata")
    return _as_openai(fields, fields.get("output_dimension"), most=128)


def jina(fields: Fields) -> Any:
    """Jina AI."""
    _only(fields, "input", "model", "task", "dimensions", "truncate", "embedding_type")
    _among(fields, "task", _JINA_TASKS)
    return _as_openai(fields, fields.get("dimensions"), most=2_048)


def dashscope(fields: Fields) -> Any:
    """Alibaba's, in its OpenAI-compatible mode: ten texts a call."""
    _only(fields, "input", "model", "dimensions", "encoding_format")
    _among(fields, "encoding_format", ("float",))
    if len(fields["input"]) > 10:
        raise Refused(400, "Value error, batch size is invalid, it should not be larger than 10.")
    return _as_openai(fields, fields.get("dimensions"), most=10)


def nvidia(fields: Fields) -> Any:
    """NVIDIA's NIM: an input_type is required."""
    names = ("input", "model", "encoding_format", "dimensions", "input_type", "truncate")
    _only(fields, *names)
    if fields.get("input_type") not in {"query", "passage"}:
        raise Refused(400, "'input_type' parameter is required")
    return _as_openai(fields, fields.get("dimensions"), most=2_048)


def databricks(fields: Fields) -> Any:
    """Databricks' model serving."""
    _only(fields, "input", "model")
    return _as_openai(fields, None, most=150)


def openai_like(fields: Fields) -> Any:
    """A server that takes OpenAI's fields, and no null for the number format."""
    _only(fields, "input", "model", "encoding_format", "dimensions")
    if "encoding_format" in fields:
        _among(fields, "encoding_format", ("float", "base64"), may_be_null=False)
    return _as_openai(fields, fields.get("dimensions"), most=2_048)


def oci(fields: Fields) -> Any:
    """Oracle's Generative AI."""
    names = ("inputs", "servingMode", "compartmentId", "inputType", "truncate", "outputDimensions")
    _only(fields, *names)
    _among(fields, "inputType", tuple(map(str.upper, _COHERE_KINDS)), may_be_null=False)
    texts = _texts(fields["inputs"], most=96)
    return {
        "id": "fake",
        "embeddings": _rows(texts, fields.get("outputDimensions")),
        "modelId": fields["servingMode"]["modelId"],
        "modelVersion": "1",
        "inputTextTokenCounts": [ITEM_TOKENS] * len(texts),
    }


def watsonx(fields: Fields) -> Any:
    """IBM's watsonx.ai."""
    _only(fields, "inputs", "model_id", "project_id", "parameters")
    # LiteLLM leaves the token among them.
    _only(fields.get("parameters") or {}, "truncate_input_tokens", "return_options", "token")
    texts = _texts(fields["inputs"], most=1_000)
    return {
        "model_id": fields["model_id"],
        "created_at": "2026-01-01T00:00:00.000Z",
        "results": [{"embedding": row} for row in _rows(texts)],
        "input_token_count": ITEM_TOKENS * len(texts),
    }


def huggingface(fields: Fields) -> Any:
    """HuggingFace's feature extraction: vectors and nothing else."""
    _only(fields, "inputs", "options", "parameters")
    return _rows(_texts(fields["inputs"], most=32))


def ollama(fields: Fields) -> Any:
    """Ollama."""
    _only(fields, "model", "input", "truncate", "dimensions", "options", "keep_alive")
    texts = _texts(fields["input"], most=2_048)
    return {
        "model": fields["model"],
        "embeddings": _rows(texts, fields.get("dimensions")),
        "prompt_eval_count": ITEM_TOKENS * len(texts),
    }


def _as_openai(fields: Fields, dims: int | None, *, most: int) -> Any:
    texts = _texts(fields["input"], most=most)
    data = [
        {"object": "embedding", "index": index, "embedding": row}
        for index, row in enumerate(_rows(texts, dims))
    ]
    tokens = ITEM_TOKENS * len(texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    # Backwards, so that only their indices say whose they are.
    return {"object": "list", "data": data[::-1], "model": fields["model"], "usage": usage}


def _only(fields: Fields, *known: str, what: str = "unknown field: {}") -> None:
    if stray := sorted(set(fields) - set(known)):
        raise Refused(400, what.format(stray[0]))


def _among(fields: Fields, name: str, known: Sequence[Any], *, may_be_null: bool = True) -> None:
    value = fields.get(name)
    if not (value in known or (value is None and may_be_null) or isinstance(value, bool)):
        raise Refused(400, f"{name} must be one of {', '.join(map(str, known))}")


def _texts(given: Any, *, most: int) -> list[str]:
    if not isinstance(given, list) or not given:
        raise Refused(400, "a list of texts is wanted")
    if len(given) > most:
        raise Refused(400, f"too many texts: at most {most} can be in one batch")
    return [_text(one) for one in given]


def _text(given: Any) -> str:
    if not isinstance(given, str) or not given:
        raise Refused(400, "a text is wanted")
    return given


def _rows(texts: Sequence[str], dims: int | None = None) -> list[list[float]]:
    return [_row(text, dims) for text in texts]


def _row(text: str, dims: int | None = None) -> list[float]:
    return [float(number) for number in np.frombuffer(vector_of(text, dims or DIMS), "<f4")]
