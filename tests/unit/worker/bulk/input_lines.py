"""Lines of batches, as callers write them."""

from __future__ import annotations

import json
from typing import Any

MODEL = "text-embedding-3-small"


def written(custom_id: Any = "a", *, model: Any = MODEL, text: Any = "x", **fields: Any) -> bytes:
    """Write one good line, changed as the test says; a field that is None is left out."""
    line: dict[str, Any] = {
        "custom_id": custom_id,
        "method": "POST",
        "url": "/v1/embeddings",
        "body": {"model": model, "input": text},
    }
    return json.dumps({n: v for n, v in (line | fields).items() if v is not None}).encode()


def body_line(custom_id: str = "a", /, **body: Any) -> bytes:
    """Write one line with a body of these fields."""
    return written(custom_id, body={"model": MODEL, "input": "x"} | body)


def file_of(*lines: bytes) -> bytes:
    """Make a file of lines."""
    return b"".join(line + b"\n" for line in lines)
