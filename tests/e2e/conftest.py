"""One pool for every test that neither breaks it nor needs it broken, and callers' clients."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import Final

import httpx
import pytest

from e2e.keys import SHORT_DIMS
from e2e.models import config_of
from e2e.pools import Pool, serving
from e2e.store import Store, store_at
from support.fake_provider import FakeProvider

SHOWN_CHARS: Final = 4_000
FOREIGN: Final = ("EMBEDPOOL_", "LITELLM_", "OPENAI_", "REDIS_")
FOREIGN_ENDINGS: Final = ("_API_KEY", "_API_BASE", "_PROXY", "_TOKEN")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure what the pool had to say."""
    report = yield
    pool = getattr(item, "funcargs", {}).get("pool")
    # The pool of a module's last test is gone before that test's own end is reported.
    if report.failed and isinstance(pool, Pool) and pool.program.log.exists():
        report.sections.append(("output of the pool", pool.program.output[-SHOWN_CHARS:]))
    return report


@pytest.fixture(scope="session", autouse=True)
def bare_environment() -> Iterator[None]:
    """Nothing that the person who runs the tests has set up reaches a pool."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            upper = name.upper()
            is_ours = upper.startswith("EMBEDPOOL_TEST_")
            if (upper.startswith(FOREIGN) or upper.endswith(FOREIGN_ENDINGS)) and not is_ours:
                patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def lasting_provider() -> Iterator[FakeProvider]:
    """The provider behind `pool`; tests take `provider`."""
    with FakeProvider.in_thread() as fake:
        yield fake


@pytest.fixture(scope="session")
def pool(lasting_provider: FakeProvider) -> Iterator[Pool]:
    """A pool of one worker that serves every model of `models`."""
    with serving(config=config_of(lasting_provider)) as running:
        yield running


@pytest.fixture
def provider(lasting_provider: FakeProvider) -> Iterator[FakeProvider]:
    """The provider behind `pool`, well-behaved and without a memory of other tests."""
    yield from well_behaved(lasting_provider)


@pytest.fixture(scope="module")
def lasting_fake() -> Iterator[FakeProvider]:
    """A module's own provider, for a pool of its own; tests take `fake`."""
    with FakeProvider.in_thread(dims=SHORT_DIMS) as fake:
        yield fake


@pytest.fixture
def fake(lasting_fake: FakeProvider) -> Iterator[FakeProvider]:
    """The module's provider, well-behaved and without a memory of other tests."""
    yield from well_behaved(lasting_fake)


def well_behaved(fake: FakeProvider) -> Iterator[FakeProvider]:
    """Yield a provider as if nobody had used it before, and leave it obedient."""
    fake.behave()
    fake.forget()
    yield fake
    fake.behave()


@pytest.fixture
def store(pool: Pool) -> Iterator[Store]:
    """What `pool` has in its Valkey; quiet before the test and after it."""
    with store_at(pool.store_url) as found:
        found.wait_until_quiet()
        yield found
        found.wait_until_quiet()


@pytest.fixture(scope="session")
def plain_client() -> Iterator[httpx.Client]:
    """A client of no particular pool: give it whole URLs."""
    with httpx.Client(trust_env=False, timeout=30) as client:
        yield client


@pytest.fixture
def client(pool: Pool, plain_client: httpx.Client) -> httpx.Client:
    """A client of `pool`: give it paths."""
    plain_client.base_url = httpx.URL(pool.url)
    return plain_client
