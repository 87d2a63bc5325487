"""One key or place fails, in whatever way: callers get their vectors from another one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from statistics import median
from typing import Any, Final
from zlib import crc32

import httpx
import pytest

from e2e.asking import Answer, Caller, all_at_once, asked, callers, right
from e2e.keys import MASTER, SHORT_DIMS, bearer, guarded, short_entry
from e2e.pools import Pool, serving
from support.fake_provider import FakeProvider
from support.faults import Behaviour, Ending
from support.processes import wait_until

pytestmark = pytest.mark.long

CROWD: Final = 16
TIMEOUT_S: Final = 0.5
"""How long one call may take."""
REST: Final = {"retry-after": "30"}
BAD: Final[Mapping[str, Behaviour]] = {
    "throttles": Behaviour(status=429, headers=REST),
    "is-unpaid": Behaviour(status=429, message="insufficient_quota: check your plan"),
    "is-rejected": Behaviour(status=401),
    "is-forbidden": Behaviour(status=403),
    "fails": Behaviour(status=500),
    "is-down": Behaviour(status=503, headers=REST),
    "hangs": Behaviour(ending=Ending.HANG),
    "resets": Behaviour(ending=Ending.RESET),
    "is-cut-off": Behaviour(ending=Ending.CUT),
}
SOON: Final[Mapping[str, tuple[int, Mapping[str, str], float]]] = {
    "in-seconds": (429, {"retry-after": "1"}, 1.0),
    "in-broken-seconds": (429, {"retry-after": "0.7"}, 0.7),
    "in-milliseconds": (429, {"retry-after-ms": "600", "retry-after": "30"}, 0.6),
    "after-a-503": (503, {"retry-after": "0.8"}, 0.8),
}
EARLY_S: Final = 0.01
LATE_S: Final = 0.4
"""A key is used again at most so long after its rest, on a busy machine."""
FLAKY: Final = "flaky"


def a_and_b(name: str) -> tuple[str, str]:
    """The two keys of a model; their last four characters are theirs alone."""
    a, b = (f"sk-{name}-of-this-test-{crc32(f'{name} {key}'.encode()):08x}" for key in "ab")
    return a, b


def pair(name: str, fake: FakeProvider, **params: Any) -> dict[str, Any]:
    """Write the entry of a model with two keys."""
    listed = short_entry(name, fake, *a_and_b(name))
    listed["litellm_params"] |= params
    return listed


@pytest.fixture(scope="module")
def pool(lasting_fake: FakeProvider) -> Iterator[Pool]:
    listed = [pair(name, lasting_fake, timeout=TIMEOUT_S) for name in BAD]
    listed += [pair(name, lasting_fake) for name in (*SOON, "on-a-date", "waits", "in-vain")]
    listed.append(pair(FLAKY, lasting_fake, timeout=TIMEOUT_S))
    slow = [f"sk-four-{number}" for number in range(4)]
    listed.append(short_entry("four", lasting_fake, *slow))
    config = guarded(lasting_fake, *listed, router_settings={"allowed_fails": 1_000})
    with serving(config=config) as running:
        yield running


def body(model: str, text: str) -> dict[str, Any]:
    return asked(model, text)


async def ask(pool: Pool, model: str, *texts: str, **headers: str) -> list[Answer]:
    """Ask for each of these on a connection of its own, all at once."""
    given = bearer(MASTER) | {name.replace("_", "-"): value for name, value in headers.items()}
    return await all_at_once(pool.url, [body(model, text) for text in texts], given)


def assert_right(answers: list[Answer], *texts: str) -> None:
    assert [answer.status for answer in answers] == [200] * len(texts)
    assert [answer.vectors for answer in answers] == [
        right([one], dims=SHORT_DIMS) for one in texts
    ]


def health_of(client: httpx.Client, pool: Pool, secret: str) -> dict[str, Any]:
    """What the pool shows of a key to whoever has the master key."""
    answer = client.get(f"{pool.url}/pool/keys", headers=bearer(MASTER))
    assert answer.status_code == 200, answer.text
    assert "of-this-test" not in answer.text
    (found,) = [key for key in answer.json()["keys"] if key["key"] == f"…{secret[-4:]}"]
    return dict(found)


@pytest.mark.parametrize("name", BAD)
async def test_callers_see_nothing_of_a_key_that_fails_and_the_next_request_does_not_try_it(
    pool: Pool, fake: FakeProvider, name: str
) -> None:
    a, b = a_and_b(name)
    fake.behave(merged_with(BAD[name], key=a))
    texts = [f"{name} {number}" for number in range(CROWD)]

    first = await ask(pool, name, "first")
    tried = fake.totals.by_key.get(a, 0)
    later = [answer for text in texts for answer in await ask(pool, name, text)]
    crowd = await ask(pool, name, *texts)

    assert_right(first, "first")
    assert_right(later, *texts)
    assert_right(crowd, *texts)
    assert tried == 1
    assert fake.totals.by_key[a] == 1
    assert fake.totals.by_key[b] >= 1 + CROWD


def merged_with(behaviour: Behaviour, **more: Any) -> Behaviour:
    """The same behaviour, about fewer calls."""
    fields = {name: getattr(behaviour, name) for name in ("status", "headers", "message", "ending")}
    return Behaviour(**fields, **more)


@pytest.mark.parametrize("name", [*SOON, "on-a-date"])
async def test_a_key_comes_back_when_the_provider_said_and_not_before(
    pool: Pool, fake: FakeProvider, name: str
) -> None:
    a, _ = a_and_b(name)
    status, headers, rest_s = SOON.get(name, (429, {}, 0.0))
    back_at = 0.0
    if not headers:
        date = (datetime.now(UTC) + timedelta(seconds=2)).replace(microsecond=0)
        back_at = time.monotonic() + (date - datetime.now(UTC)).total_seconds()
        headers = {"retry-after": format_datetime(date, usegmt=True)}
    fake.behave(Behaviour(key=a, calls=1, status=status, headers=headers))

    numbers = 0
    async with callers(1, pool.url) as (caller,):
        while fake.totals.by_key.get(a, 0) < 2:
            answer = await caller.ask(body(name, f"{numbers}"), bearer(MASTER))
            assert answer.status == 200
            numbers += 1
            assert numbers < 5_000

    refused, again = (call.at for call in fake.calls if call.key == a)
    back_at = back_at or refused + rest_s
    assert back_at - EARLY_S <= again <= back_at + LATE_S


async def test_what_is_wrong_with_each_key_is_shown_and_no_secret(
    pool: Pool, fake: FakeProvider, plain_client: httpx.Client
) -> None:
    for name in ("is-unpaid", "is-rejected", "throttles"):
        a, _ = a_and_b(name)
        fake.behave(merged_with(BAD[name], key=a))
        assert_right(await ask(pool, name, f"seen {name}"), f"seen {name}")

    def conditions() -> dict[str, tuple[str, str]]:
        found = {
            name: health_of(plain_client, pool, a_and_b(name)[0])
            for name in ("is-unpaid", "is-rejected", "throttles")
        }
        return {name: (key["condition"], key["reason"]) for name, key in found.items()}

    expected = {
        "is-unpaid": ("cooling", "quota"),
        "is-rejected": ("retired", "rejected"),
        "throttles": ("cooling", "throttled"),
    }
    wait_until(lambda: conditions() == expected, patience_s=5, what="the health of three keys")
    unpaid = health_of(plain_client, pool, a_and_b("is-unpaid")[0])
    assert 200 < unpaid["rests_for_s"] <= 300
    assert health_of(plain_client, pool, a_and_b("throttles")[1])["condition"] == "ready"


async def test_when_every_key_rests_a_request_waits_for_the_first_one(
    pool: Pool, fake: FakeProvider
) -> None:
    a, b = a_and_b("waits")
    fake.behave(
        Behaviour(key=a, calls=1, status=429, headers={"retry-after": "1"}),
        Behaviour(key=b, calls=1, status=429, headers={"retry-after": "20"}),
    )

    answers = await ask(pool, "waits", *(f"{number}" for number in range(CROWD)))

    assert_right(answers, *(f"{number}" for number in range(CROWD)))
    assert 1.0 <= max(answer.took_s for answer in answers) < 1.0 + LATE_S + 0.2


async def test_a_request_that_cannot_wait_so_long_is_refused_at_once_with_the_true_wait(
    pool: Pool, fake: FakeProvider
) -> None:
    fake.behave(Behaviour(status=429, headers=REST))

    refused = [(await ask(pool, "in-vain", "x", x_stainless_read_timeout="5"))[0] for _ in range(2)]

    for answer in refused:
        assert (answer.status, answer.error["code"]) == (503, "no_keys")
        assert answer.error["message"] == "[openai] No available keys for provider 'openai'"
        assert 25 <= int(answer.headers["retry-after"]) <= 30
        assert answer.took_s < 1.0
    assert fake.totals.calls == 2, "each key once, and never for the second request"


async def test_a_slow_key_of_four_is_left_to_the_others(pool: Pool, fake: FakeProvider) -> None:
    slow = "sk-four-0"
    fake.behave(Behaviour(latency_s=0.02), Behaviour(key=slow, latency_s=0.6))
    took: list[float] = []
    ends_at = time.monotonic() + 1.5

    async def keep_asking(caller: Caller, number: int) -> None:
        count = 0
        while time.monotonic() < ends_at:
            answer = await caller.ask(body("four", f"{number} {count}"), bearer(MASTER))
            assert answer.status == 200
            took.append(answer.took_s)
            count += 1

    async with callers(CROWD, pool.url) as connected:
        await asyncio.gather(*(keep_asking(one, n) for n, one in enumerate(connected)))

    ordered = sorted(took)
    assert median(ordered) < 0.1
    assert ordered[int(len(ordered) * 0.9)] < 0.2
    assert fake.totals.by_key[slow] <= 0.1 * fake.totals.calls


async def test_connections_that_went_wrong_are_not_kept(pool: Pool, fake: FakeProvider) -> None:
    await ask(pool, FLAKY, *(f"before {number}" for number in range(CROWD)))
    before = fake.traffic.open_connections
    for ending in (Ending.HANG, Ending.RESET, Ending.CUT):
        fake.behave(Behaviour(ending=ending))
        texts = [f"{ending} {number}" for number in range(CROWD)]
        await ask(pool, FLAKY, *texts, x_stainless_read_timeout="0.8")
    fake.behave()
    after = await ask(pool, FLAKY, "after")

    assert_right(after, "after")
    wait_until(
        lambda: fake.traffic.open_connections <= before + 1, patience_s=3, what="as many as before"
    )
    assert fake.traffic.in_flight == 0
