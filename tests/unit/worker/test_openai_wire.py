from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

import pytest

from embedpool_shared.errors import (
    CapExceeded,
    KeyRejected,
    ProviderError,
    ProviderThrottled,
    ProviderUnavailable,
    RefusedInput,
    WrongAnswer,
)
from embedpool_worker.caps import Caps
from embedpool_worker.deployments import Adapter, Deployment
from embedpool_worker.providers.http_options import HttpOptions
from embedpool_worker.providers.openai_wire import OpenAIWire
from embedpool_worker.providers.port import ProviderAnswer, ProviderCall
from support.fake_provider import FakeProvider
from support.faults import Behaviour, Distortion, Ending
from support.vectors import token_count, vector_of

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "text-embedding-3-small"
TEXTS = ["alpha", "beta", "gamma"]


@pytest.fixture
def fake() -> Iterator[FakeProvider]:
    with FakeProvider.in_thread(dims=12) as provider:
        yield provider


def deployment(fake: FakeProvider, **more: Any) -> Deployment:
    fields: dict[str, Any] = {
        "id": "d",
        "provider": "openai",
        "upstream_model": MODEL,
        "adapter": Adapter.OPENAI_WIRE,
        "caps": Caps(max_items=64, max_item_tokens=8_191),
        "api_base": fake.api_base,
    }
    return Deployment(**(fields | more))


def call(**more: Any) -> ProviderCall:
    fields: dict[str, Any] = {"model": MODEL, "inputs": TEXTS, "secret": "sk-test-1"}
    return ProviderCall(**(fields | more))


def answers(
    where: Deployment, *calls: ProviderCall, options: HttpOptions | None = None
) -> list[ProviderAnswer]:
    async def run() -> list[ProviderAnswer]:
        wire = OpenAIWire(where, options or HttpOptions())
        try:
            return [await wire.embed(one) for one in calls]
        finally:
            await wire.close()

    return asyncio.run(run())


def answer(where: Deployment, one: ProviderCall, **more: Any) -> ProviderAnswer:
    return answers(where, one, **more)[0]


def expected(dims: int = 12) -> list[bytes]:
    return [vector_of(text, dims, MODEL) for text in TEXTS]


def test_every_input_gets_its_own_vector_and_usage_is_the_providers(fake: FakeProvider) -> None:
    got = answer(deployment(fake), call())

    assert list(got.vectors) == expected()
    assert (got.dims, got.model) == (12, MODEL)
    assert got.total_tokens == sum(map(token_count, TEXTS))


def test_base64_is_asked_for_and_the_key_travels_as_a_bearer(fake: FakeProvider) -> None:
    answer(deployment(fake), call())

    [seen] = fake.calls
    assert seen.fields == {"model": MODEL, "encoding_format": "base64"}
    assert seen.headers["authorization"] == "Bearer sk-test-1"
    assert "cookie" not in seen.headers


def test_every_call_carries_its_own_key(fake: FakeProvider) -> None:
    keys = ["sk-a", "sk-a", "sk-b", "sk-a", None, "sk-b"]

    answers(deployment(fake), *(call(secret=key) for key in keys))

    sent = [seen.headers.get("authorization") for seen in fake.calls]
    assert sent == [key and f"Bearer {key}" for key in keys]


def test_azure_is_spoken_to_in_its_own_way(fake: FakeProvider) -> None:
    azure = deployment(fake, provider="azure", api_base=fake.url, api_version="2024-02-01")

    answer(azure, call())

    [seen] = fake.calls
    assert seen.path == f"/openai/deployments/{MODEL}/embeddings?api-version=2024-02-01"
    assert seen.headers["api-key"] == "sk-test-1"
    assert "authorization" not in seen.headers


def test_azures_path_holds_the_name_behind_a_wildcard_and_nothing_more(fake: FakeProvider) -> None:
    azure = deployment(fake, provider="azure", api_base=fake.url, upstream_model="*")

    answer(azure, call(model="a/../b?x=1"))

    assert fake.calls[0].path.startswith("/openai/deployments/a%2F..%2Fb%3Fx%3D1/embeddings?api-")
    with pytest.raises(RefusedInput):
        answer(azure, call(model=".."))


def test_a_provider_without_a_key_gets_no_credential(fake: FakeProvider) -> None:
    answer(deployment(fake), call(secret=None))

    assert "authorization" not in fake.calls[0].headers


def test_dimensions_and_parameters_go_into_the_body_and_ours_win(fake: FakeProvider) -> None:
    params = {"truncate": "END", "model": "evil", "input": "evil", "encoding_format": "float"}

    got = answer(deployment(fake), call(dimensions=24, params=params))

    [seen] = fake.calls
    assert seen.fields == {
        "model": MODEL,
        "encoding_format": "base64",
        "dimensions": 24,
        "truncate": "END",
    }
    assert list(got.vectors) == expected(24)


def test_dimensions_among_the_parameters_are_not_sent(fake: FakeProvider) -> None:
    answer(deployment(fake), call(params={"dimensions": 24}))

    assert "dimensions" not in fake.calls[0].fields


def test_token_arrays_travel_as_they_are(fake: FakeProvider) -> None:
    got = answer(deployment(fake), call(inputs=[[1, 2], [3]]))

    assert list(got.vectors) == [vector_of([1, 2], 12, MODEL), vector_of([3], 12, MODEL)]


def test_a_provider_that_ignores_base64_is_understood(fake: FakeProvider) -> None:
    fake.behave(Behaviour(ignores_base64=True))

    assert list(answer(deployment(fake), call()).vectors) == expected()


def test_a_refusal_of_base64_costs_one_more_call_once(fake: FakeProvider) -> None:
    fake.behave(Behaviour(refuses_base64=True))

    first, second = answers(deployment(fake), call(), call())

    assert list(first.vectors) == list(second.vectors) == expected()
    assert [one.fields["encoding_format"] for one in fake.calls] == ["base64", "float", "float"]


def test_a_refusal_that_only_quotes_the_word_changes_nothing(fake: FakeProvider) -> None:
    fake.behave(
        Behaviour(text="alpha", status=400, message="bad input: 'what is base64?'"),
    )

    async def run() -> None:
        wire = OpenAIWire(deployment(fake), HttpOptions())
        with pytest.raises(RefusedInput):
            await wire.embed(call())
        fake.forget()
        await wire.embed(call(inputs=["beta"]))
        await wire.close()

    asyncio.run(run())

    assert fake.calls[0].fields["encoding_format"] == "base64"


@pytest.mark.parametrize("distortion", [Distortion.PERMUTED, Distortion.NO_INDEX])
@pytest.mark.parametrize("floats", [False, True], ids=["base64", "floats"])
def test_another_order_or_none_is_put_right(
    fake: FakeProvider, distortion: Distortion, floats: bool
) -> None:
    fake.behave(Behaviour(distortion=distortion, ignores_base64=floats))

    assert list(answer(deployment(fake), call()).vectors) == expected()


@pytest.mark.parametrize(
    "distortion",
    sorted(
        set(Distortion)
        - {
            Distortion.PERMUTED,
            Distortion.NO_INDEX,
            Distortion.NO_USAGE,
            Distortion.ERROR_IN_200,
        }
    ),
)
@pytest.mark.parametrize("floats", [False, True], ids=["base64", "floats"])
def test_a_distorted_answer_is_never_delivered(
    fake: FakeProvider, distortion: Distortion, floats: bool
) -> None:
    fake.behave(Behaviour(distortion=distortion, ignores_base64=floats))

    with pytest.raises(WrongAnswer):
        answer(deployment(fake), call())


def test_an_error_inside_a_200_is_an_error(fake: FakeProvider) -> None:
    fake.behave(Behaviour(distortion=Distortion.ERROR_IN_200))

    with pytest.raises(ProviderError, match="had an error"):
        answer(deployment(fake), call())


def test_an_answer_without_usage_has_no_total(fake: FakeProvider) -> None:
    fake.behave(Behaviour(distortion=Distortion.NO_USAGE))

    assert answer(deployment(fake), call()).total_tokens is None


@pytest.mark.parametrize("wanted", [{"dimensions": 24}, {}], ids=["asked for", "native"])
def test_vectors_of_another_length_are_a_wrong_answer(
    fake: FakeProvider, wanted: dict[str, int]
) -> None:
    short = deployment(fake, native_dimensions=16)
    fake.behave(Behaviour(distortion=Distortion.WRONG_LENGTH))

    with pytest.raises(WrongAnswer):
        answer(short, call(inputs=["alpha"], **wanted))


def test_lone_surrogates_never_leave(fake: FakeProvider) -> None:
    with pytest.raises(RefusedInput):
        answer(deployment(fake), call(inputs=["\ud800"]))

    assert fake.calls == []


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        (Behaviour(status=401), KeyRejected),
        (Behaviour(status=429, headers={"retry-after-ms": "1500"}), ProviderThrottled),
        (Behaviour(status=500), ProviderUnavailable),
        (Behaviour(status=307, headers={"location": "http://127.0.0.1:1/"}), ProviderUnavailable),
        (Behaviour(max_items=2), CapExceeded),
        (Behaviour(max_item_tokens=1), RefusedInput),
        (Behaviour(ending=Ending.CUT), ProviderUnavailable),
        (Behaviour(ending=Ending.RESET), ProviderUnavailable),
    ],
    ids=["401", "429", "500", "a redirect", "a cap", "too long", "cut", "reset"],
)
def test_every_refusal_is_one_of_ours_after_exactly_one_attempt(
    fake: FakeProvider, behaviour: Behaviour, kind: type[ProviderError]
) -> None:
    fake.behave(behaviour)

    with pytest.raises(kind) as caught:
        answer(deployment(fake), call())

    assert fake.totals.calls == 1
    if kind is ProviderThrottled:
        assert caught.value.retry_after_s == 1.5


def test_a_dropped_keep_alive_connection_is_not_tried_twice(fake: FakeProvider) -> None:
    async def run() -> None:
        wire = OpenAIWire(deployment(fake), HttpOptions())
        await wire.embed(call())
        fake.behave(Behaviour(ending=Ending.RESET))
        with pytest.raises(ProviderUnavailable):
            await wire.embed(call())
        await wire.close()

    asyncio.run(run())

    assert fake.totals.calls == 2
    assert fake.traffic.connections == 1


def test_connections_are_kept(fake: FakeProvider) -> None:
    answers(deployment(fake), call(), call(), call())

    assert fake.traffic.connections == 1


def test_a_silent_provider_is_left_in_the_moment_the_call_is_cancelled(fake: FakeProvider) -> None:
    fake.behave(Behaviour(ending=Ending.HANG))

    async def run() -> None:
        wire = OpenAIWire(deployment(fake), HttpOptions())
        try:
            await asyncio.wait_for(wire.embed(call()), 0.05)
        finally:
            await wire.close()

    with pytest.raises(TimeoutError):
        asyncio.run(run())


def test_nobody_listening_is_unavailable() -> None:
    with FakeProvider.in_thread() as gone:
        where = deployment(gone)

    with pytest.raises(ProviderUnavailable):
        answer(where, call())


def test_an_answer_is_not_read_past_its_cap(fake: FakeProvider) -> None:
    fake.behave(Behaviour(padding_bytes=100_000))

    with pytest.raises(WrongAnswer, match="larger than 50000 bytes"):
        answer(deployment(fake), call(), options=HttpOptions(max_answer_bytes=50_000))


@pytest.mark.parametrize(
    ("status", "kind"), [(None, WrongAnswer), (429, ProviderThrottled), (401, KeyRejected)]
)
def test_a_compressed_answer_is_not_read(
    fake: FakeProvider, status: int | None, kind: type[ProviderError]
) -> None:
    fake.behave(Behaviour(status=status, headers={"content-encoding": "gzip"}))

    with pytest.raises(kind):
        answer(deployment(fake), call())


def test_credentials_in_the_address_stand_in_for_a_key(fake: FakeProvider) -> None:
    where = deployment(fake, api_base=fake.api_base.replace("//", "//me:p%40ss@"))

    answers(where, call(secret=None), call())

    with_login, with_key = fake.calls
    assert with_login.headers["authorization"] == "Basic bWU6cEBzcw=="
    assert with_key.headers["authorization"] == "Bearer sk-test-1"
    assert with_login.headers["host"] == fake.url.removeprefix("http://")


def test_the_providers_headers_come_along_in_lower_case(fake: FakeProvider) -> None:
    fake.behave(Behaviour(headers={"X-RateLimit-Remaining-Requests": "59"}))

    got = answer(deployment(fake), call())

    assert got.headers["x-ratelimit-remaining-requests"] == "59"


def test_a_proxy_from_the_environment_is_not_used(
    fake: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

    assert list(answer(deployment(fake), call()).vectors) == expected()


def test_the_operators_proxy_is_used(fake: FakeProvider) -> None:
    elsewhere = deployment(fake, api_base="http://provider.invalid/v1")

    # An http address is sent to a proxy as a whole; the fake only looks at how it ends.
    got = answer(elsewhere, call(), options=HttpOptions(proxy=fake.url))

    assert list(got.vectors) == expected()
    assert fake.traffic.connections == 1


def test_a_ca_file_that_is_none_is_refused_at_once(tmp_path: Any) -> None:
    nonsense = tmp_path / "ca.pem"
    nonsense.write_text("no certificate")

    with pytest.raises(ssl.SSLError):
        HttpOptions(ca_file=str(nonsense)).ssl_context()
