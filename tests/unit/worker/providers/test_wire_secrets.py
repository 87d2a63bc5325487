"""What a refusal on the OpenAI wire keeps, and what it hides."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final

import pytest

from embedpool_shared.errors import KeyForbidden, KeyRejected, ProviderError, ProviderThrottled
from embedpool_worker.caps import Caps
from embedpool_worker.deployments import Adapter, Deployment
from embedpool_worker.providers.http_options import HttpOptions
from embedpool_worker.providers.openai_wire import OpenAIWire
from embedpool_worker.providers.port import ProviderCall
from embedpool_worker.providers.sending import secrets_of
from support.foreign_formats import ForeignProvider
from support.http_server import Response

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY: Final = "canary 4f1d"


@pytest.fixture
def foreign() -> Iterator[ForeignProvider]:
    with ForeignProvider.in_thread() as provider:
        yield provider


def deployment(api_base: str, **more: Any) -> Deployment:
    fields: dict[str, Any] = {
        "id": "d",
        "provider": "openai",
        "upstream_model": "m",
        "adapter": Adapter.OPENAI_WIRE,
        "caps": Caps(max_items=64, max_item_tokens=8_191),
        "api_base": api_base,
    }
    return Deployment(**(fields | more))


def refusal(where: Deployment, secret: str | None) -> ProviderError:
    async def run() -> None:
        wire = OpenAIWire(where, HttpOptions())
        try:
            await wire.embed(ProviderCall(model="m", inputs=["x"], secret=secret))
        finally:
            await wire.close()

    with pytest.raises(ProviderError) as caught:
        asyncio.run(run())
    return caught.value


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 429, 500])
@pytest.mark.parametrize("provider", ["openai", "azure"])
def test_a_key_that_is_repeated_is_hidden(
    foreign: ForeignProvider, provider: str, status: int
) -> None:
    foreign.echoes_status = status

    error = refusal(deployment(f"{foreign.url}/v1", provider=provider), KEY)

    sent = foreign.requests[0][0].headers
    assert KEY in sent.get("authorization", "") + sent.get("api-key", "")
    assert KEY not in f"{error.message} {error.code} {error.param}"


def test_a_login_in_the_address_is_hidden_in_either_spelling(foreign: ForeignProvider) -> None:
    foreign.echoes_status = 401
    base = foreign.url.replace("//", "//me:p%40ss-word@")

    error = refusal(deployment(f"{base}/v1"), None)

    basic = b64encode(b"me:p@ss-word").decode()
    assert foreign.requests[0][0].headers["authorization"] == f"Basic {basic}"
    assert basic not in error.message
    assert "ss-word" not in error.message


def test_a_key_that_works_but_not_for_this_is_told_from_one_that_does_not(
    foreign: ForeignProvider,
) -> None:
    kinds = []
    for status in (401, 403):
        foreign.refusal = Response(b"{}", status)
        kinds.append(type(refusal(deployment(foreign.url), KEY)))

    assert kinds == [KeyRejected, KeyForbidden]


def test_a_refusal_carries_the_keys_limits_and_no_other_header(foreign: ForeignProvider) -> None:
    limits = {"x-ratelimit-remaining-requests": "0", "Retry-After-Ms": "10"}
    foreign.refusal = Response(b"{}", 429, {**limits, "Set-Cookie": "session=1"})

    error = refusal(deployment(foreign.url), KEY)

    assert type(error) is ProviderThrottled
    assert error.headers == {"x-ratelimit-remaining-requests": "0", "retry-after-ms": "10"}


def test_every_secret_of_a_deployment_is_known() -> None:
    options = {"aws_secret_access_key": "aws-1", "oci_key": "oci-1", "aws_region_name": "here"}
    call = ProviderCall(model="m", inputs=["x"], secret="key-1")

    known = secrets_of(deployment("http://u:pw%21@h/v1", options=options), call)

    assert {"aws-1", "oci-1", "key-1", "pw%21", "pw!"} <= set(known)
    assert "here" not in known
    assert secrets_of(deployment("http://h/v1"), ProviderCall(model="m", inputs=[])) == ()
