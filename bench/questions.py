"""Embedding requests made beforehand, and whether an answer to one of them is right. Pure."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final

import numpy as np
import orjson

from support.vectors import vector_of

PATH: Final = "/v1/embeddings"
_WORDS: Final = "the quick brown fox jumps over the lazy dog again and again"
_BULK_BODIES: Final = 64
_BODY: Final = b'{"input":[%b],"model":%b,"encoding_format":"%b"}'
_HEAD: Final = (
    "POST {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\n"
    "content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
)


class Encoding(StrEnum):
    """How the answer writes its vectors."""

    BASE64 = "base64"  # what the openai client asks for by itself
    FLOAT = "float"  # the API's default


@dataclass(frozen=True)
class Questions:
    """An endless row of requests; no two of up to 64 in a row share a text."""

    host: str
    model: str
    dims: int
    texts: int = 1
    encoding: Encoding = Encoding.BASE64
    key: str = "sk-bench"
    salt: str = "0"  # set apart the rows of two processes; always as long as any other

    def request(self, number: int) -> bytes:
        """Write request `number`, head and body."""
        if self.texts > 1:
            return self._bulk[number % _BULK_BODIES]
        front, back = self._single
        return b"%b%010d%b" % (front, number, back)

    def is_answered_by(self, body: bytes, number: int) -> bool:
        """Say whether `body` holds exactly the vectors of request `number`, in order."""
        try:
            rows = orjson.loads(body)["data"]
            return [row["index"] for row in rows] == list(range(self.texts)) and all(
                _bytes_of(row["embedding"]) == vector_of(text, self.dims, self.model)
                for row, text in zip(rows, self._texts(number), strict=True)
            )
        except (ValueError, TypeError, KeyError):
            return False

    def _texts(self, number: int) -> list[str]:
        if self.texts == 1:
            return [self._text(number)]
        body = number % _BULK_BODIES
        return [self._text(body * self.texts + n) for n in range(self.texts)]

    def _text(self, number: int) -> str:
        return f"{_WORDS} {self.salt} {number:010d}"

    @cached_property
    def _single(self) -> tuple[bytes, bytes]:
        # Only the text's number differs, and it is as long as any other: no request is stored.
        number = "0" * 10
        whole = self._written([self._text(0)])
        front, _, back = whole.rpartition(number.encode())
        return front, back

    @cached_property
    def _bulk(self) -> list[bytes]:
        return [self._written(self._texts(number)) for number in range(_BULK_BODIES)]

    def _written(self, texts: list[str]) -> bytes:
        inputs = orjson.dumps(texts)[1:-1]
        body = _BODY % (inputs, orjson.dumps(self.model), self.encoding.encode())
        return (
            _HEAD.format(path=PATH, host=self.host, key=self.key, length=len(body)).encode() + body
        )


def _bytes_of(embedding: object) -> bytes:
    if isinstance(embedding, str):
        return b64decode(embedding, validate=True)
    return np.array(embedding, "<f4").tobytes()
