"""The OpenAI wire format: a call's body, and the vectors read out of an answer's. Pure.

Base64 is decoded straight to float32 bytes (4 µs for 1,536 dimensions); JSON floats are accepted
too, because some providers ignore what was asked for (75 µs).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

import msgspec
import orjson

from embedpool_shared.errors import RefusedInput, WrongAnswer
from embedpool_worker.providers.answers import count_of, dims_of, float32_bytes, name_of, placed
from embedpool_worker.providers.port import ProviderAnswer, ProviderCall

OWNED_FIELDS: Final = frozenset({"model", "input", "encoding_format", "dimensions"})
"""Fields of the body that only we set, whatever the call's parameters say."""


class NumberFormat(StrEnum):
    """How vectors are asked for; the value is `encoding_format`."""

    BASE64 = "base64"  # float32 as it is
    FLOAT = "float"  # JSON numbers
    UNSPOKEN = ""  # the field is left out: it is not known there


class _Datum(msgspec.Struct):
    embedding: str | list[float]
    index: int | None = None


class _Answer(msgspec.Struct):
    data: list[_Datum] | None = None
    model: Any = None
    usage: Any = None
    error: msgspec.Raw = msgspec.Raw(b"null")


_decoder: Final = msgspec.json.Decoder(_Answer)


class ErrorInAnswer(Exception):
    """A 200 whose body is an error."""


def body_of(call: ProviderCall, number_format: NumberFormat, *, dims: int | None) -> bytes:
    """Write the JSON body of `call`, asking for `dims` if given.

    Raises `RefusedInput` for text that is no Unicode.
    """
    body: dict[str, Any] = {}
    if call.params:
        body = {k: v for k, v in call.params.items() if k not in OWNED_FIELDS}
    body["model"] = call.model
    body["input"] = call.inputs
    if number_format is not NumberFormat.UNSPOKEN:
        body["encoding_format"] = number_format
    if dims is not None:
        body["dimensions"] = dims
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError as error:
        # A lone surrogate: legal in JSON's escapes and in Python, but in no UTF-8.
        message = "the input holds characters that are not Unicode"
        raise RefusedInput(message, param="input") from error


def answer_from(
    body: bytes | bytearray,
    call: ProviderCall,
    *,
    dims: int | None,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> ProviderAnswer:
    """Read the vectors of a 200, in the order of the inputs.

    Raises `WrongAnswer` unless there is one finite vector of `dims` per input, and `ErrorInAnswer`.
    """
    try:
        answer = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        kind = type(error).__name__
        raise WrongAnswer(f"the provider's answer cannot be read: {kind}") from None
    if bytes(answer.error) not in {b"null", b"{}", b'""'} or answer.data is None:
        raise ErrorInAnswer
    vectors = placed(
        [float32_bytes(datum.embedding) for datum in answer.data],
        [datum.index for datum in answer.data],
        items=len(call.inputs),
    )
    return ProviderAnswer(
        vectors=vectors,
        dims=dims_of(vectors, wanted=dims),
        model=name_of(answer.model) or call.model,
        total_tokens=_total(answer.usage),
        headers=headers,
    )


def _total(usage: Any) -> int | None:
    if not isinstance(usage, dict):
        return None
    total = count_of(usage.get("total_tokens"))
    return count_of(usage.get("prompt_tokens")) if total is None else total
