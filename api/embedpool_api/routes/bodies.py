"""Reading the body of an administrator's request: JSON, checked field by field."""

from typing import Annotated, Any, Literal, TypeVar

import orjson
from fastapi import Request
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from embedpool_api.accounts.money import MAX_USD
from embedpool_api.middleware import HEADERS, read_body
from embedpool_shared.errors import BadRequest

MAX_BODY_BYTES = 1024 * 1024
MAX_NAME_LETTERS = 256
MAX_MODELS = 1_000
MAX_TAGS = 20
MAX_METADATA_BYTES = 4_096

Body = TypeVar("Body", bound="AdminBody")


def _no_switch(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("should be a number, not a switch")  # noqa: TRY004 (pydantic's protocol)
    return value


def blank_is_none(value: object) -> object:
    """Read an empty text as absent."""
    return None if isinstance(value, str) and not value.strip() else value


def _sane(name: str) -> str:
    if not name.isprintable() or "{" in name or "}" in name:
        raise ValueError("should have printable letters only, and no braces")
    return name


def _small(metadata: dict[str, Any]) -> dict[str, Any]:
    if len(orjson.dumps(metadata)) > MAX_METADATA_BYTES:
        raise ValueError(f"should be at most {MAX_METADATA_BYTES} bytes of JSON")
    return metadata


Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_LETTERS), AfterValidator(_sane)]
OptionalName = Annotated[Name | None, BeforeValidator(blank_is_none)]
Words = Annotated[Annotated[str, Field(max_length=64)] | None, BeforeValidator(blank_is_none)]
Count = Annotated[int, BeforeValidator(_no_switch), Field(ge=0, le=1_000_000_000_000)]
Dollars = Annotated[
    float, BeforeValidator(_no_switch), Field(ge=0, le=MAX_USD, allow_inf_nan=False)
]
Models = Annotated[list[Name], Field(max_length=MAX_MODELS)]
Tags = Annotated[list[Name], Field(max_length=MAX_TAGS)]
Sharing = Annotated[Literal["all", "team", "key"] | None, BeforeValidator(blank_is_none)]
Metadata = Annotated[dict[str, Any], AfterValidator(_small)]


class AdminBody(BaseModel):
    """A body; fields it does not have are looked at by whoever reads it."""

    model_config = ConfigDict(extra="allow", hide_input_in_errors=True)


async def body_of(request: Request, kind: type[Body]) -> Body:
    """Read the body of `request`; raises `BadRequest` naming the field, and `BodyTooLarge`.

    Whatever content type it claims: scripts forget it.
    """
    body = await read_body(request.receive, request.scope[HEADERS], max_bytes=MAX_BODY_BYTES)
    try:
        given = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError:
        raise BadRequest("the body should be a JSON object, and is not JSON") from None
    if not isinstance(given, dict):
        raise BadRequest("the body should be a JSON object, like {}")
    try:
        return kind.model_validate(given)
    except ValidationError as invalid:
        problem = invalid.errors(include_input=False, include_url=False, include_context=False)[0]
        param = _path(problem["loc"])
        raise BadRequest(f"`{param}`: {_lowered(problem['msg'])}", param=param) from None


def described(kind: type[BaseModel]) -> dict[str, Any]:
    """Describe a body for the OpenAPI document."""
    schema = kind.model_json_schema()
    schema = _inlined(schema, schema.pop("$defs", {}))
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
    }


def _inlined(schema: Any, models: dict[str, Any]) -> Any:
    """Put models within a model where they are named: nobody finds them in the whole document."""
    if isinstance(schema, list):
        return [_inlined(part, models) for part in schema]
    if not isinstance(schema, dict):
        return schema
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    if name in models:
        return _inlined(models[name], models)
    return {key: _inlined(part, models) for key, part in schema.items()}


def _path(place: tuple[int | str, ...]) -> str:
    first, *rest = place or ("body",)
    return f"{first}{''.join(f'[{part}]' for part in rest if isinstance(part, int))}"


def _lowered(text: str) -> str:
    text = text.removeprefix("Value error, ")
    return text[:1].lower() + text[1:]
