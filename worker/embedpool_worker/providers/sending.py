"""What adapters decide alike before a call leaves: the size and the key to send. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedpool_shared.errors import KeyRejected

if TYPE_CHECKING:
    from embedpool_worker.deployments import Deployment
    from embedpool_worker.providers.port import ProviderCall


def dims_wanted(deployment: Deployment, call: ProviderCall) -> int | None:
    """The length every vector of the answer must have, None where nobody knows."""
    return call.dimensions or deployment.native_dimensions


def dims_sent(deployment: Deployment, call: ProviderCall) -> int | None:
    """The `dimensions` to send: none for the model's own size, which many refuse to be told."""
    if call.dimensions == deployment.native_dimensions or not deployment.forwards_dimensions:
        return None
    return call.dimensions


def key_sent(call: ProviderCall) -> str | None:
    """The key to send; raises `KeyRejected` for one that fits no HTTP header."""
    if call.secret is not None and not (call.secret.isascii() and call.secret.isprintable()):
        raise KeyRejected("the key holds characters that no key has", code="invalid_api_key")
    return call.secret
