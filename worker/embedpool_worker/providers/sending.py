"""What adapters decide alike about a call: the size and the key to send, what to hide. Pure."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

import msgspec

from embedpool_shared.errors import KeyRejected
from embedpool_worker.providers.port import ProviderCall

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embedpool_shared.jobs import Input, MergeKey
    from embedpool_worker.deployments import Deployment

SECRET_OPTIONS: Final = (
    "aws_secret_access_key",
    "aws_session_token",
    "aws_web_identity_token",
    "azure_ad_token",
    "client_secret",
    "oci_key",
    "token",
    "vertex_credentials",
    "watsonx_token",
)
"""Of `Deployment.options`."""


def call_of(
    deployment: Deployment,
    merge: MergeKey,
    inputs: Sequence[Input],
    *,
    secret: str | None,
    timeout_s: float,
) -> ProviderCall:
    """Say what is asked of a deployment; the model's own size never is."""
    wanted = merge.dimensions or deployment.default_dimensions
    if not deployment.forwards_dimensions or wanted == deployment.native_dimensions:
        wanted = None
    return ProviderCall(
        model=deployment.upstream_of(merge.model),
        inputs=inputs,
        dimensions=wanted,
        params=msgspec.json.decode(merge.params) if merge.params else {},
        secret=secret,
        timeout_s=timeout_s,
    )


def dims_wanted(deployment: Deployment, call: ProviderCall) -> int | None:
    """The length every vector of the answer must have, None where nobody knows."""
    return call.dimensions or deployment.native_dimensions


def dims_sent(deployment: Deployment, call: ProviderCall) -> int | None:
    """The `dimensions` to send: none for the model's own size, which many refuse to be told."""
    if call.dimensions == deployment.native_dimensions or not deployment.forwards_dimensions:
        return None
    return call.dimensions


def secrets_of(deployment: Deployment, call: ProviderCall) -> tuple[str, ...]:
    """Whatever of a call must not come back in a message: its key, and the operator's own."""
    given = (call.secret, *map(deployment.options.get, SECRET_OPTIONS))
    login = urlsplit(deployment.api_base or "")
    named = [one for one in (*given, login.password) if one]
    if login.password is not None:
        pair = f"{unquote(login.username or '')}:{unquote(login.password)}"
        named += [unquote(login.password), b64encode(pair.encode()).decode()]
    return tuple(named)


def key_sent(call: ProviderCall) -> str | None:
    """The key to send; raises `KeyRejected` for one that fits no HTTP header."""
    if call.secret is not None and not (call.secret.isascii() and call.secret.isprintable()):
        raise KeyRejected("the key holds characters that no key has", code="invalid_api_key")
    return call.secret
