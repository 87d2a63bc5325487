"""The vector cache of a whole pool: what hits cost and say, what is stored, under what name."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Iterator
from typing import Any, Final

import httpx
import numpy as np
import pytest

from e2e.asking import all_at_once, asked, right, vectors_in
from e2e.keys import MASTER, SHORT_DIMS, bearer, guarded, short_entry
from e2e.pools import Pool, serving
from e2e.store import Store, store_at
from embedpool_shared.names import Names
from support.fake_provider import FakeProvider
from support.faults import Behaviour
from support.processes import wait_until

pytestmark = pytest.mark.long

TTL_S: Final = 60
PRICE: Final = 0.001
Ask = Callable[..., httpx.Response]


@pytest.fixture(scope="module")
def pool(lasting_fake: FakeProvider) -> Iterator[Pool]:
    config = guarded(
        lasting_fake,
        short_entry("m", lasting_fake, input_cost_per_token=PRICE),
        short_entry("other", lasting_fake),
        litellm_settings={"cache": True, "cache_params": {"ttl": TTL_S}},
    )
    with serving(config=config) as running:
        yield running


@pytest.fixture
def store(pool: Pool) -> Iterator[Store]:
    with store_at(pool.store_url) as found:
        yield found
        found.wait_until_quiet()


@pytest.fixture
def ask(pool: Pool, plain_client: httpx.Client) -> Ask:
    def asking(
        given: str | list[str], *, model: str = "m", cache_control: str = "", **fields: Any
    ) -> httpx.Response:
        headers = bearer(MASTER) | {"x-embedpool-debug": "1"}
        if cache_control:
            headers["cache-control"] = cache_control
        answer = plain_client.post(
            f"{pool.url}/v1/embeddings", json=asked(model, given, **fields), headers=headers
        )
        assert answer.status_code == 200, answer.text
        return answer

    return asking


def stored(store: Store) -> int:
    """How many vectors the pool has kept."""
    return len(names_of_vectors(store))


def names_of_vectors(store: Store) -> list[bytes]:
    return list(store.client.scan_iter(match=Names().vector("*")))


def wait_until_stored(store: Store, count: int) -> None:
    wait_until(lambda: stored(store) == count, patience_s=5, what=f"{count} vectors stored")


def outcome(answer: httpx.Response) -> tuple[str, float]:
    """What an answer says of the cache and of its price."""
    return answer.headers["x-embedpool-cache"], float(answer.headers["x-embedpool-cost-usd"])


def test_what_was_asked_before_asks_nobody_again_and_costs_nothing(
    ask: Ask, fake: FakeProvider, store: Store
) -> None:
    before = stored(store)
    first = ask(["tea", "cocoa"], user="alice")
    wait_until_stored(store, before + 2)

    again = ask(["cocoa", "tea", "cocoa"], user="bob", encoding_format="float")

    assert vectors_in(again.json()) == right(["cocoa", "tea", "cocoa"], dims=SHORT_DIMS)
    assert (outcome(first)[0], outcome(again)) == ("miss", ("hit", 0.0))
    assert outcome(first)[1] > 0
    assert [call.items for call in fake.calls] == [["tea", "cocoa"]]
    assert again.json()["model"] == first.json()["model"]
    assert again.json()["usage"]["prompt_tokens"] > 0


def test_of_a_list_known_in_part_only_the_rest_is_sent_and_paid(
    ask: Ask, fake: FakeProvider, store: Store
) -> None:
    before = stored(store)
    ask(["b", "d"])
    wait_until_stored(store, before + 2)
    fake.forget()

    answer = ask(["a", "b", "c", "d"])

    assert vectors_in(answer.json()) == right(["a", "b", "c", "d"], dims=SHORT_DIMS)
    assert [call.items for call in fake.calls] == [["a", "c"]]
    assert outcome(answer)[0] == "partial"
    assert outcome(answer)[1] == pytest.approx(PRICE * answer.json()["usage"]["prompt_tokens"] / 2)
    wait_until_stored(store, before + 4)


def test_neither_another_size_nor_another_model_is_mistaken_for_it(
    ask: Ask, fake: FakeProvider, store: Store
) -> None:
    before = stored(store)
    ask("one thing")
    wait_until_stored(store, before + 1)

    smaller = ask("one thing", dimensions=8)
    other = ask("one thing", model="other")

    assert len(b64decode(smaller.json()["data"][0]["embedding"])) == 8 * np.dtype("f4").itemsize
    assert {outcome(smaller)[0], outcome(other)[0]} == {"miss"}
    assert fake.totals.calls == 3
    wait_until_stored(store, before + 3)


def test_whoever_wants_no_cache_has_none(ask: Ask, fake: FakeProvider, store: Store) -> None:
    before = stored(store)
    ask("secret", cache_control="no-store")
    ask("known")
    wait_until_stored(store, before + 1)

    fresh = ask("known", cache_control="no-cache")
    unknown = ask("secret")

    assert {outcome(fresh)[0], outcome(unknown)[0]} == {"miss"}
    assert [call.items for call in fake.calls] == [["secret"], ["known"], ["known"], ["secret"]]
    wait_until_stored(store, before + 2)


def test_names_say_nothing_of_the_texts_and_end_in_time(ask: Ask, store: Store) -> None:
    before = stored(store)
    ask("a text that nobody else must read")
    wait_until_stored(store, before + 1)

    names = names_of_vectors(store)

    assert not any(b"nobody" in name for name in names)
    assert all(0 < store.client.pttl(name) <= TTL_S * 1_000 for name in names)


async def test_the_same_text_under_way_is_waited_for_and_not_sent_again(
    pool: Pool, fake: FakeProvider
) -> None:
    fake.behave(Behaviour(latency_s=0.3))

    text = "everybody asks this"
    answers = await all_at_once(pool.url, [asked("other", text)] * 32, bearer(MASTER))

    assert [answer.vectors for answer in answers] == [right([text], dims=SHORT_DIMS)] * 32
    assert fake.totals.items == 1
