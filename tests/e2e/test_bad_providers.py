"""Providers that refuse, fail, hang or lie: nothing wrong is delivered, and nobody else suffers."""

from __future__ import annotations

import httpx
import pytest

from e2e.asking import all_at_once, asked, callers, error_of, right, seen, vectors_in
from e2e.load import until
from e2e.models import CANARY, REPEATING_STATUSES
from e2e.pools import Fleet, Pool, short_directory
from e2e.store import Store
from support.fake_provider import FakeProvider
from support.faults import Behaviour, Distortion, Ending

IMPATIENT = {"x-stainless-read-timeout": "1"}


async def test_one_poison_among_64_callers_fails_alone(pool: Pool, provider: FakeProvider) -> None:
    texts = [f"harmless {n}" for n in range(63)] + ["poison"]
    provider.behave(
        Behaviour(latency_s=0.05),
        Behaviour(containing="poison", status=400, message="This text is not allowed."),
    )

    answers = await all_at_once(pool.url, [asked("small", text) for text in texts])

    for text, answer in zip(texts[:-1], answers[:-1], strict=True):
        assert answer.vectors == right([text])
    poisoned = answers[-1]
    assert poisoned.status == 400
    assert poisoned.error["message"] == "[openai] This text is not allowed."
    assert poisoned.error["type"] == "invalid_request_error"
    # Halving finds one in 64 with at most two calls a halving.
    assert provider.totals.by_status[400] <= 7


def test_a_provider_that_is_down_is_a_502_in_its_name(client: httpx.Client) -> None:
    answer = client.post("/v1/embeddings", json=asked("gone", "anybody there?"))

    assert seen(answer) == (502, "upstream_error", None, None)
    assert error_of(answer)["message"].startswith("[openai] ")


def test_a_single_failure_goes_unnoticed(client: httpx.Client, provider: FakeProvider) -> None:
    provider.behave(Behaviour(status=500, calls=1))

    answer = client.post(
        "/v1/embeddings", json=asked("small", "again"), headers={"x-embedpool-debug": "1"}
    )

    assert vectors_in(answer.json()) == right(["again"])
    assert answer.headers["x-embedpool-tries"] == "2"


def test_a_provider_that_always_fails_is_a_502(
    client: httpx.Client, provider: FakeProvider
) -> None:
    provider.behave(Behaviour(status=503, message="We are down."))

    answer = client.post("/v1/embeddings", json=asked("small", "never"))

    assert seen(answer) == (502, "upstream_error", None, None)
    assert error_of(answer)["message"].startswith("[openai] ")


def test_a_provider_that_hangs_is_a_504_before_the_client_hangs_up(
    client: httpx.Client, provider: FakeProvider, store: Store
) -> None:
    provider.behave(Behaviour(ending=Ending.HANG))

    answer = client.post("/v1/embeddings", json=asked("small", "wait"), headers=IMPATIENT)

    assert seen(answer) == (504, "timeout_error", None, "timeout")
    assert answer.elapsed.total_seconds() < 1
    provider.behave()
    store.wait_until_quiet()


def test_a_rejected_key_is_never_tried_again(client: httpx.Client, provider: FakeProvider) -> None:
    provider.behave(Behaviour(key="sk-rejected", status=401))

    answers = [client.post("/v1/embeddings", json=asked("rejected", f"{n}")) for n in range(3)]

    assert {seen(answer) for answer in answers} == {(503, "no_keys", None, "no_keys")}
    message = error_of(answers[0])["message"]
    assert message == "[openai] No available keys for provider 'openai'"
    assert provider.totals.calls == 1


def test_a_throttled_key_rests_while_another_answers(
    client: httpx.Client, provider: FakeProvider
) -> None:
    asks = [asked("throttled", f"{n}") for n in range(4)]
    rest = {"retry-after": "30"}
    provider.behave(Behaviour(key="sk-throttled-a", status=429, headers=rest))

    answered = [client.post("/v1/embeddings", json=ask) for ask in asks]
    provider.behave(Behaviour(status=429, headers=rest))
    refused = client.post("/v1/embeddings", json=asked("throttled", "more"), headers=IMPATIENT)

    assert [vectors_in(answer.json()) for answer in answered] == [right([f"{n}"]) for n in range(4)]
    assert provider.totals.by_key["sk-throttled-a"] == 1
    assert seen(refused) == (503, "no_keys", None, "no_keys")
    assert 20 <= int(refused.headers["retry-after"]) <= 30


@pytest.mark.parametrize(
    "distortion",
    [one for one in Distortion if one not in {Distortion.PERMUTED, Distortion.NO_USAGE}],
)
def test_a_wrong_answer_is_asked_for_again(
    client: httpx.Client, provider: FakeProvider, distortion: Distortion
) -> None:
    texts = ["one", "two", "three"]
    provider.behave(Behaviour(distortion=distortion, calls=1))

    answer = client.post("/v1/embeddings", json=asked("small", texts))

    assert vectors_in(answer.json()) == right(texts)


def test_an_answer_in_another_order_is_sorted(client: httpx.Client, provider: FakeProvider) -> None:
    texts = ["one", "two", "three"]
    provider.behave(Behaviour(distortion=Distortion.PERMUTED))

    answer = client.post("/v1/embeddings", json=asked("small", texts))

    assert vectors_in(answer.json()) == right(texts)


def test_an_answer_that_stays_wrong_is_a_502(client: httpx.Client, provider: FakeProvider) -> None:
    provider.behave(Behaviour(distortion=Distortion.NAN))

    answer = client.post("/v1/embeddings", json=asked("small", ["one", "two"]))

    assert seen(answer) == (502, "upstream_error", None, None)


def test_a_provider_that_fuses_every_list_is_asked_for_one_text_at_a_time(
    client: httpx.Client, provider: FakeProvider
) -> None:
    provider.behave(Behaviour(distortion=Distortion.FUSED))

    answer = client.post("/v1/embeddings", json=asked("small", ["one", "two"]))

    assert vectors_in(answer.json()) == right(["one", "two"])


def test_a_provider_that_knows_no_base64_is_asked_for_floats(
    client: httpx.Client, provider: FakeProvider
) -> None:
    provider.behave(Behaviour(refuses_base64=True))

    answers = [client.post("/v1/embeddings", json=asked("left", text)) for text in ("a", "b")]

    assert [vectors_in(answer.json()) for answer in answers] == [right(["a"]), right(["b"])]
    assert provider.totals.by_status == {400: 1, 200: 2}


@pytest.mark.parametrize("status", REPEATING_STATUSES)
def test_a_provider_that_repeats_its_key_is_not_quoted(
    client: httpx.Client, provider: FakeProvider, status: int
) -> None:
    said = f"No good: {CANARY}. Authorization: Bearer {CANARY}"
    provider.behave(Behaviour(status=status, message=said))

    answer = client.post("/v1/embeddings", json=asked(f"repeats-{status}", "x"), headers=IMPATIENT)

    assert error_of(answer)["message"].startswith("[openai] ")
    assert CANARY not in answer.text
    assert provider.totals.by_key[CANARY] > 0


async def test_a_full_queue_is_overloaded_and_says_when_to_come_back(
    pool: Pool, provider: FakeProvider, store: Store
) -> None:
    provider.behave(Behaviour(ending=Ending.HANG))
    ask = asked("left", [f"{n}" for n in range(5)])

    with short_directory() as directory, Fleet(pool.store_url, directory) as fleet:
        fleet.wait_until_served(fleet.api(env={"EMBEDPOOL_POOL_MAX_QUEUE_ITEMS": "8"}))
        async with callers(2, fleet.url) as (first, second):
            first.send(ask, {"x-stainless-read-timeout": "2"})
            await until(lambda: store.waiting("left") == 5, "five items waiting")
            refused = await second.ask(ask)
            in_time, _, _ = await first.receive()

    assert in_time == 504
    assert refused.status == 503
    assert (refused.error["type"], refused.error["code"]) == ("overloaded_error", "overloaded")
    assert 1 <= int(refused.headers["retry-after"]) <= 120
