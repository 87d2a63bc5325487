"""A call with a caller's own provider key: nothing of ours goes along, nothing of theirs leaks."""

from __future__ import annotations

from typing import Any

import pytest

from embedpool_shared.errors import (
    CapExceeded,
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
    ProviderUnavailable,
    QuotaExhausted,
    RefusedInput,
    WrongAnswer,
)
from embedpool_shared.jobs import Job, LaneClass, MergeKey
from embedpool_shared.sealing import NONCE_BYTES, SealBroken, Secrets, job_place
from embedpool_worker.caps import Caps
from embedpool_worker.deployments import Adapter, Deployment, ProviderKey
from embedpool_worker.held import HeldJob, HeldPack
from embedpool_worker.own_keys import own_deployment, said_of_own_key

SECRETS = Secrets("a secret of this very test")
SCOPE = "passthrough:" + "d" * 64
OURS = Deployment(
    id="small-1",
    provider="openai",
    upstream_model="text-embedding-3-small",
    adapter=Adapter.OPENAI_WIRE,
    caps=Caps(max_items=64, max_item_tokens=8_191),
    keys=(ProviderKey("small-1#1", "sk-ours"),),
    options={"organization": "org-ours"},
    rpm=10,
    tpm=1_000,
    is_callable=False,
    takes_own_keys=True,
)


def sealed_for(place: str, credential: bytes = b"sk-theirs") -> bytes:
    return SECRETS.seal(credential, place=place, nonce=bytes(NONCE_BYTES))


def job_with(sealed: bytes, *, pack_id: str = "p1", number: int = 3) -> HeldJob:
    pack = HeldPack("1-0", LaneClass.INTERACTIVE, pack_id, "api", (number,), 0.0, 0.0, 0)
    job = Job(number, 0, ["x"], 1_000, 1, sealed=sealed)
    return HeldJob(pack, job, MergeKey("m", scope=SCOPE), 1.0, [None], 1)


def own(*deployments: Deployment, job: HeldJob | None = None) -> Deployment:
    job = job or job_with(sealed_for(job_place("p1", 3)))
    return own_deployment(deployments or (OURS,), job, SECRETS)


def test_only_the_callers_key_goes_along() -> None:
    theirs = own()

    assert [key.secret for key in theirs.keys] == ["sk-theirs"]
    assert theirs.options == {}
    assert (theirs.rpm, theirs.tpm) == (None, None)
    assert theirs.is_callers_own
    assert theirs.is_callable


def test_its_adapter_is_not_the_one_our_own_calls_use() -> None:
    assert own().id != OURS.id


def test_it_goes_to_the_first_deployment_alone() -> None:
    second = Deployment(
        id="other", provider="azure", upstream_model="x", adapter=Adapter.OPENAI_WIRE,
        caps=OURS.caps, takes_own_keys=True,
    )  # fmt: skip

    assert own(OURS, second).provider == "openai"


def test_a_deployment_that_does_not_take_such_keys_never_sees_one() -> None:
    closed = Deployment(
        id="mine", provider="hosted_vllm", upstream_model="x", adapter=Adapter.OPENAI_WIRE,
        caps=OURS.caps, api_base="http://10.0.0.1/v1",
    )  # fmt: skip

    with pytest.raises(ModelNotAllowed, match="hosted_vllm"):
        own(closed, OURS)


@pytest.mark.parametrize("place", [("p2", 3), ("p1", 4)])
def test_a_key_sealed_for_another_job_is_not_opened(place: tuple[str, int]) -> None:
    job = job_with(sealed_for(job_place(*place)))

    with pytest.raises(SealBroken):
        own(job=job)


def test_without_a_secret_nothing_is_opened() -> None:
    with pytest.raises(ModelNotAllowed):
        own_deployment([OURS], job_with(sealed_for(job_place("p1", 3))), None)


def test_no_repr_shows_the_key() -> None:
    assert "sk-theirs" not in repr(own())


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (KeyRejected("no"), OwnKeyRefused),
        (KeyForbidden("not this"), OwnKeyForbidden),
        (ProviderThrottled("slow down", retry_after_s=7.0), OwnKeyThrottled),
        (QuotaExhausted("no money"), OwnKeyThrottled),
        (RefusedInput("no such model", param="model"), ModelNotFound),
    ],
)
def test_what_the_provider_says_of_the_key_is_the_callers_to_hear(
    error: ProviderError, kind: type[EmbedPoolError]
) -> None:
    said = said_of_own_key(error, "openai")

    assert type(said) is kind
    assert said.message == f"[openai] {error.message}"
    assert said.retry_after_s == error.retry_after_s


@pytest.mark.parametrize(
    "error",
    [
        ProviderUnavailable("down"),
        WrongAnswer("nonsense"),
        CapExceeded("too many"),
        RefusedInput("bad text", param="input"),
    ],
)
def test_what_is_not_about_the_key_is_judged_as_ever(error: Any) -> None:
    assert said_of_own_key(error, "openai") is None
