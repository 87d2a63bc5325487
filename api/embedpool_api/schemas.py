"""The endpoint's bodies as JSON schemas, and examples of them. Pure."""

from __future__ import annotations

from typing import Any, Final

from embedpool_shared.embedding.inputs import MAX_ITEMS
from embedpool_shared.embedding.request import MAX_NAME_LETTERS
from embedpool_shared.statuses import STATUS_OF

REF: Final = "#/components/schemas/"
_TEXT: Final = {"type": "string", "minLength": 1}
_IDS: Final = {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}}
_COUNT: Final = {"type": "integer", "minimum": 0}


def _several(items: dict[str, Any], title: str) -> dict[str, Any]:
    return {
        "type": "array",
        "title": title,
        "minItems": 1,
        "maxItems": MAX_ITEMS,
        "items": items,
    }


EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "one text": {"model": "wordllama", "input": "The quick brown fox jumps over the lazy dog"},
    "several texts": {
        "model": "text-embedding-3-small",
        "input": ["first sentence", "second sentence"],
        "encoding_format": "base64",
        "dimensions": 512,
    },
    "one token array": {"model": "text-embedding-3-small", "input": [791, 4062, 14198]},
    "several token arrays": {"model": "text-embedding-3-small", "input": [[791, 4062], [14198]]},
    "a provider's own parameter": {
        "model": "embed-english-v3.0",
        "input": "a query",
        "input_type": "search_query",
    },
}

SCHEMAS: Final[dict[str, dict[str, Any]]] = {
    "EmbeddingRequest": {
        "type": "object",
        "required": ["input"],
        "additionalProperties": True,
        "description": "Any other field is a parameter of the provider, where the model knows it. "
        "null means absent.",
        "properties": {
            "model": {
                "type": ["string", "null"],
                "maxLength": MAX_NAME_LETTERS,
                "description": "A model, an alias or model@provider; may be left out where the "
                "path names it or the operator set a default.",
            },
            "input": {
                "description": "What to embed.",
                "anyOf": [
                    {"title": "One text", **_TEXT},
                    _several(_TEXT, "Several texts"),
                    {"title": "One token array", **_IDS},
                    _several(_IDS, "Several token arrays"),
                ],
            },
            "encoding_format": {
                "type": ["string", "null"],
                "enum": ["float", "base64", None],
                "default": "float",
                "description": "base64 is little-endian float32.",
            },
            "dimensions": {"type": ["integer", "null"], "minimum": 1},
            "user": {"type": ["string", "null"], "description": "Whom the spend is noted for."},
            "metadata": {"type": ["object", "null"], "description": "Kept with the usage record."},
            "extra_body": {
                "type": ["object", "null"],
                "description": "Merged into the JSON body sent to the provider; at most 4 KB.",
            },
            "input_type": {"type": ["string", "null"], "examples": ["search_query"]},
            "task_type": {"type": ["string", "null"], "examples": ["RETRIEVAL_QUERY"]},
            "truncate": {"examples": ["END"]},
        },
    },
    "EmbeddingResponse": {
        "type": "object",
        "required": ["object", "data", "model", "usage"],
        "properties": {
            "object": {"const": "list"},
            "data": {"type": "array", "minItems": 1, "items": {"$ref": f"{REF}Embedding"}},
            "model": {"type": "string"},
            "usage": {
                "type": "object",
                "required": ["prompt_tokens", "total_tokens"],
                "properties": {"prompt_tokens": _COUNT, "total_tokens": _COUNT},
            },
        },
    },
    "Embedding": {
        "type": "object",
        "required": ["object", "index", "embedding"],
        "properties": {
            "object": {"const": "embedding"},
            "index": _COUNT,
            "embedding": {
                "anyOf": [
                    {"type": "array", "items": {"type": "number"}},
                    {"type": "string", "contentEncoding": "base64"},
                ]
            },
        },
    },
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    "message": {"type": "string"},
                    "type": {
                        "type": "string",
                        "examples": sorted({row.type for row in STATUS_OF.values()}),
                    },
                    "param": {"type": ["string", "null"]},
                    "code": {"type": ["string", "null"]},
                },
            }
        },
    },
}
