"""Which further fields a caller may send to the provider, and their one spelling. Pure.

Whatever passes here is merged into the JSON body of a call that may carry several callers' inputs.
So nothing may pass that moves the call elsewhere, pays for it with another credential, replaces
the inputs, or changes what the numbers in the answer mean; at any depth, however it is spelt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from embedpool_shared.catalog import same_name
from embedpool_shared.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BYTES: Final = 4_096
MAX_DEPTH: Final = 16
MAX_TAGS: Final = 20
_MAX_VALUES: Final = MAX_BYTES // 2
"""A value takes at least two bytes of JSON, its comma included."""

_OURS: Final = """
    model input inputs input_text text texts content contents instances requests prompt messages
    documents images encoding_format encoding_type dimensions user metadata extra_body stream
"""
_OF_TRANSPORT: Final = """
    api_base base_url api_key api_version api_type api_token access_token auth_token authorization
    bearer_token token password secret credentials client http_client headers extra_headers
    default_headers extra_query default_query timeout request_timeout stream_timeout organization
    project proxy proxies ssl_verify verify endpoint endpoint_url url uri host region region_name
    custom_llm_provider max_retries num_retries fallbacks mock_response cache caching tags
"""
_OF_THE_NUMBERS: Final = """
    output_dtype embedding_type embedding_types embedding_format dtype embed_dtype endianness
    output_type quantization return_multivector multi_vector return_sparse binary
"""
_OF_THE_SIZE: Final = "dimension output_dimension output_dimensionality truncate_dim"
_OF_THE_NEIGHBOURS: Final = "late_chunking"


def _reasons() -> dict[str, str]:
    why = {
        _OURS: "it is a field of the request itself",
        _OF_TRANSPORT: "only the operator says where and with what a provider is called",
        _OF_THE_NUMBERS: "vectors are float32 whatever the provider; see `encoding_format`",
        _OF_THE_SIZE: "say `dimensions` instead",
        _OF_THE_NEIGHBOURS: "a vector would depend on the other texts of the call",
    }
    return {same_name(name): reason for names, reason in why.items() for name in names.split()}


_REFUSED: Final = _reasons()
_REFUSED_BEGINNINGS: Final = ("aws", "azure", "vertex", "watsonx", "oci", "sagemaker", "litellm")


def merged(fields: dict[str, Any], extra_body: dict[str, Any]) -> dict[str, Any]:
    """Put further top-level fields and `extra_body` into one object; raises `BadRequest`.

    A null among `fields` means absent. The same name in both: `extra_body` says it closer.
    """
    wanted = {name: value for name, value in fields.items() if value is not None}
    for name, value in wanted.items():
        _refuse_name(name, "")
        check_literal(value, name, is_forwarded=True)
    check_literal(extra_body, "extra_body", is_forwarded=True)
    wanted |= extra_body
    if len(canonical(wanted).encode()) > MAX_BYTES:
        raise _too_large("extra_body" if extra_body else next(iter(wanted)))
    return wanted


def canonical(params: dict[str, Any]) -> str:
    """Spell parameters so that equal ones are equal strings; "" for none."""
    return orjson.dumps(params, option=orjson.OPT_SORT_KEYS).decode() if params else ""


def check_literal(value: Any, path: str, *, is_forwarded: bool = False) -> None:
    """Refuse what is too deep, too much, a look into our environment or, forwarded, a name of ours.

    Raises `BadRequest`. It walks with a list of its own: nesting cannot exhaust the stack.
    """
    waiting: list[tuple[str, Any, int]] = [(path, value, 0)]
    seen = 1
    while waiting:
        where, found, depth = waiting.pop()
        if isinstance(found, str):
            _refuse_environment(found, where)
        if not isinstance(found, dict | list):
            continue
        seen += len(found)
        if seen > _MAX_VALUES:
            raise _too_large(path)
        if depth == MAX_DEPTH:
            raise BadRequest(f"{path} is nested deeper than {MAX_DEPTH} levels", param=path)
        if isinstance(found, dict):
            _check_names(found, where, is_forwarded=is_forwarded)
        waiting.extend((place, inner, depth + 1) for place, inner in _within(found, where))


def _within(found: dict[str, Any] | list[Any], where: str) -> Iterator[tuple[str, Any]]:
    if isinstance(found, dict):
        return ((_joined(where, name), inner) for name, inner in found.items())
    return ((f"{where}[{place}]", inner) for place, inner in enumerate(found))


def _check_names(found: dict[str, Any], where: str, *, is_forwarded: bool) -> None:
    for name in found:
        _refuse_environment(name, where)
        if is_forwarded:
            _refuse_name(name, where)


def _refuse_name(name: str, where: str) -> None:
    folded = same_name(name)
    reason = _REFUSED.get(folded)
    if reason is None and folded.startswith(_REFUSED_BEGINNINGS):
        reason = "only the operator says where and with what a provider is called"
    if reason is not None:
        path = _joined(where, name)
        raise BadRequest(f"{path} cannot be sent to the provider: {reason}", param=path)


def _refuse_environment(text: str, where: str) -> None:
    if text.lstrip().startswith("os.environ/"):
        raise BadRequest(f"{where}: values are literal, os.environ/ is not read here", param=where)


def _joined(where: str, name: str) -> str:
    shown = name[:64]
    return f"{where}.{shown}" if where else shown


def _too_large(path: str) -> BadRequest:
    return BadRequest(f"{path} is larger than {MAX_BYTES} bytes of JSON", param=path)
