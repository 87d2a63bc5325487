"""What is remembered of a request, and who beside its caller is charged for it. Pure.

Headers speak for clients that cannot add to the body; where both say something, the body wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from embedpool_shared.accounts import AccountKind, account_name
from embedpool_shared.embedding.params import MAX_BYTES, MAX_TAGS, canonical, check_literal
from embedpool_shared.errors import BadRequest

if TYPE_CHECKING:
    from embedpool_api.callers import Caller
    from embedpool_shared.embedding.request import EmbeddingRequest

MAX_ID_LETTERS: Final = 256
MAX_TAG_LETTERS: Final = 128
END_USER_HEADERS: Final = (
    b"x-litellm-end-user-id",
    b"x-litellm-customer-id",
    b"x-litellm-user-id",
)
"""The first one sent counts."""
METADATA_HEADERS: Final = (b"x-litellm-metadata", b"x-litellm-spend-logs-metadata")
"""A later one counts before an earlier one."""
TAGS_HEADER: Final = b"x-litellm-tags"
HEADERS: Final = frozenset({*END_USER_HEADERS, *METADATA_HEADERS, TAGS_HEADER})


class Attribution(NamedTuple):
    """What a request's usage record says beside what it used."""

    accounts: tuple[str, ...] = ()  # charged beside the caller's own: "team:…", "tag:…"
    metadata: str = ""  # canonical JSON, "" for none


NOTHING: Final = Attribution()


def attribution(
    headers: Mapping[bytes, bytes], request: EmbeddingRequest, caller: Caller
) -> Attribution:
    """Say whom to charge and what to remember; raises `BadRequest` naming the header or field.

    An end user is only counted: whoever names one can neither use its budget nor be held to it.
    """
    # Most requests add nothing, so that is found out first and fast.
    adds_nothing = (
        headers.keys().isdisjoint(HEADERS)
        and request.user is None
        and not request.metadata
        and not request.tags
    )
    if adds_nothing and not (caller.payers or caller.tags or caller.metadata):
        return NOTHING
    end_user = _end_user(headers, request)
    tags = _tags(headers, request)
    accounts = [*caller.payers]
    if end_user:
        accounts.append(account_name(AccountKind.END_USER, end_user))
    accounts += (account_name(AccountKind.TAG, tag) for tag in (*caller.tags, *tags))
    metadata = {**caller.metadata, **_metadata(headers), **request.metadata}
    return Attribution(tuple(dict.fromkeys(accounts)), canonical(metadata))


def _end_user(headers: Mapping[bytes, bytes], request: EmbeddingRequest) -> str:
    if request.user:
        return _name(request.user.strip(), "user", MAX_ID_LETTERS)
    for header in END_USER_HEADERS:
        if said := headers.get(header, b"").strip():
            return _name(_text(said, header), header.decode(), MAX_ID_LETTERS)
    return ""


def _tags(headers: Mapping[bytes, bytes], request: EmbeddingRequest) -> list[str]:
    said = headers.get(TAGS_HEADER, b"")
    header = TAGS_HEADER.decode()
    listed = (tag.strip() for tag in _text(said, TAGS_HEADER).split(","))
    tags = [_name(tag, header, MAX_TAG_LETTERS) for tag in listed if tag]
    tags += (_name(tag.strip(), "tags", MAX_TAG_LETTERS) for tag in request.tags if tag.strip())
    tags = list(dict.fromkeys(tags))
    if len(tags) > MAX_TAGS:
        raise BadRequest(
            f"`{header}` and `tags` name more than {MAX_TAGS} tags",
            param=header if said else "tags",
        )
    return tags


def _metadata(headers: Mapping[bytes, bytes]) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for header in METADATA_HEADERS:
        if said := headers.get(header, b"").strip():
            metadata |= _object(_text(said, header), header.decode())
    return metadata


def _object(said: str, header: str) -> dict[str, Any]:
    try:
        found = orjson.loads(said)
    except orjson.JSONDecodeError:
        found = None
    if type(found) is not dict:
        raise BadRequest(f"`{header}` must be a JSON object, like {{}}", param=header)
    check_literal(found, header)
    return found


def _text(said: bytes, header: bytes) -> str:
    if len(said) > MAX_BYTES:
        name = header.decode()
        raise BadRequest(f"`{name}` is larger than {MAX_BYTES} bytes", param=name)
    try:
        return said.decode()
    except UnicodeDecodeError:
        return said.decode("latin-1")  # what HTTP said headers are, before everybody sent UTF-8


def _name(text: str, param: str, max_letters: int) -> str:
    if len(text) > max_letters or not text.isprintable():
        raise BadRequest(
            f"`{param}` must hold names of at most {max_letters} printable letters", param=param
        )
    return text
