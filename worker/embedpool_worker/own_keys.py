"""Calls with a caller's own provider key: a deployment made for it alone. Pure.

Invariants
- The key goes to the provider of the first deployment, with no other credential and no setting of
  the operator's that belongs to one.
- It never rests and is never replaced: what the provider says of it is for its caller to hear.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from embedpool_shared.errors import (
    EmbedPoolError,
    KeyForbidden,
    KeyRejected,
    ModelNotAllowed,
    ModelNotFound,
    OwnKeyForbidden,
    OwnKeyRefused,
    OwnKeyThrottled,
    ProviderError,
    ProviderThrottled,
    QuotaExhausted,
    RefusedInput,
)
from embedpool_shared.sealing import Secrets, job_place
from embedpool_worker.deployments import Deployment, ProviderKey
from embedpool_worker.held import HeldJob


def own_deployment(
    deployments: Sequence[Deployment], job: HeldJob, secrets: Secrets | None
) -> Deployment:
    """Make the deployment that only this job's caller, and its other jobs, are called with.

    Raises `ModelNotAllowed` where such keys must not go, and `SealBroken`.
    """
    first = deployments[0]
    if secrets is None or not first.takes_own_keys:
        raise ModelNotAllowed(f"[{first.provider}] is not called with keys of callers' own")
    place = job_place(job.pack.pack_id, job.job.number)
    secret = secrets.opened(job.job.sealed, place=place).decode("latin-1")
    return replace(
        first,
        id=f"{first.id}:own",
        keys=(ProviderKey(job.merge.scope, secret),),
        options={},
        rpm=None,
        tpm=None,
        is_callable=True,
        is_callers_own=True,
    )


def said_of_own_key(error: ProviderError, provider: str) -> EmbedPoolError | None:
    """Say what a provider's refusal of a caller's own key is to that caller; None if it is none."""
    message = f"[{provider}] {error.message}"
    match error:
        case KeyForbidden():
            return OwnKeyForbidden(message, code=error.code)
        case KeyRejected():
            return OwnKeyRefused(message, code=error.code)
        case ProviderThrottled() | QuotaExhausted():
            return OwnKeyThrottled(message, code=error.code, retry_after_s=error.retry_after_s)
        case RefusedInput(param="model"):
            return ModelNotFound(message, param="model", code=error.code)
        case _:
            return None
