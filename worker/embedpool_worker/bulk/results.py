"""The lines of a batch's output and error files, as OpenAI writes them. Pure.

All ids follow from the batch's and the line's, so that a line that is redone has the same ones.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple

import orjson

from embedpool_shared.embedding.answer import embedding_body
from embedpool_shared.statuses import error_content, row_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedpool_shared.embedding.answer import Part
    from embedpool_shared.errors import EmbedPoolError

EXPIRED: Final = "batch_expired"
CANCELLED: Final = "batch_cancelled"
_WORDS: Final = {
    EXPIRED: "The batch expired before this line was answered.",
    CANCELLED: "The batch was cancelled before this line was answered.",
}
_ID_BYTES: Final = 16


class Place(NamedTuple):
    """Which line of which batch it is."""

    batch_id: str
    number: int  # from 1
    custom_id: str

    @property
    def request_id(self) -> str:
        """How the request is named that the line stands for."""
        name = f"{self.batch_id}/{self.number}".encode()
        return blake2b(name, digest_size=_ID_BYTES).hexdigest()


def answered_line(
    place: Place, parts: Sequence[Part], *, is_base64: bool, model: str, prompt_tokens: int
) -> bytes:
    """Write the line of an answer, its body as the embeddings route would write it."""
    body = embedding_body(parts, is_base64=is_base64, model=model, prompt_tokens=prompt_tokens)
    return _with_response(place, 200, body)


def refused_line(place: Place, error: EmbedPoolError) -> bytes:
    """Write the line of an error, with the status and body the embeddings route would answer."""
    body = orjson.dumps({"error": error_content(error, request_id=place.request_id)})
    return _with_response(place, row_of(error).status, body)


def unanswered_line(place: Place, code: str) -> bytes:
    """Write the line of a request that was never answered: `EXPIRED` or `CANCELLED` says why."""
    error = orjson.dumps({"code": code, "message": _WORDS[code]})
    return _line(place, b"null", error)


def _with_response(place: Place, status: int, body: bytes) -> bytes:
    response = b'{"status_code":%d,"request_id":"%b","body":%b}' % (
        status,
        place.request_id.encode(),
        body,
    )
    return _line(place, response, b"null")


def _line(place: Place, response: bytes, error: bytes) -> bytes:
    return b'{"id":"batch_req_%b","custom_id":%b,"response":%b,"error":%b}\n' % (
        place.request_id.encode(),
        orjson.dumps(place.custom_id),
        response,
        error,
    )
