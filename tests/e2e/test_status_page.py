"""The status page in a real browser: who gets in, what is shown, and that nothing else runs there.

`EMBEDPOOL_TEST_SCREENSHOT` may name a file for the picture of it.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import Event
from typing import Final

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from e2e.batches import begun, client_of, ended, line
from e2e.keys import MASTER, bearer, guarded, short_entry
from e2e.pools import Pool, serving
from e2e.store import store_at
from embedpool_api.status.sessions import COOKIE, Sessions
from embedpool_shared.jobs import encode
from embedpool_shared.names import Names
from embedpool_shared.sealing import Secrets
from support.browser import Visit, chromium, visit
from support.fake_provider import FakeProvider
from support.faults import Behaviour
from support.processes import wait_until
from unit.api.usage_records import record

pytestmark = pytest.mark.long

MARKUP: Final = "<img src=x onerror=window.pwned=1><script>window.pwned=1</script>"
"""A name, as somebody might choose it who wants to run something in an operator's browser."""
KEYS: Final = ("sk-the-first-key-of-this-test-1234", "sk-the-second-key-of-this-test-5678")
LONE_KEY: Final = "sk-the-only-key-of-a-model-9abc"
CROWD: Final = 12
PHONE: Final = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeProvider]:
    with FakeProvider.in_thread(dims=24) as provider:
        yield provider


@pytest.fixture(scope="module")
def pool(fake: FakeProvider) -> Iterator[Pool]:
    limited = short_entry("small", fake, *KEYS)
    limited["litellm_params"] |= {"rpm": 600, "tpm": 100_000}
    models = [limited, short_entry("large", fake, LONE_KEY)]
    with serving(config=guarded(fake, *models)) as running:
        yield running


@pytest.fixture(scope="module")
def worked(pool: Pool, fake: FakeProvider) -> Pool:
    """The pool after some work, one failure among it, all of it in the spend log."""
    with httpx.Client(base_url=pool.url, headers=bearer(MASTER), trust_env=False) as client:

        def ask(number: int) -> int:
            asked = {"model": "small", "input": [f"{number} {at}" for at in range(1, number)]}
            return client.post("/v1/embeddings", json=asked).status_code

        fake.behave(Behaviour(latency_s=0.1))
        with ThreadPoolExecutor(CROWD) as crowd:
            assert {*crowd.map(ask, range(2, CROWD * 4))} == {200}
        assert client.post("/v1/embeddings", json={"model": "large", "input": "a"}).is_success
        fake.behave(Behaviour(status=400))
        assert client.post("/v1/embeddings", json={"model": "small", "input": "a"}).is_error
        fake.behave()

        def is_logged() -> bool:
            return any(row["status"] == "failure" for row in client.get("/spend/logs").json())

        wait_until(is_logged, patience_s=10, what="the failure's usage record")
    return pool


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def shell(pool: Pool, browser: Browser) -> Iterator[Visit]:
    """Somebody's browser before the login; whatever they do, nothing is forbidden or fails."""
    with visit(browser, f"{pool.url}/") as seen:
        yield seen
        assert seen.violations == []
        assert not [it for it in seen.complaints if it.startswith("uncaught")]


@pytest.fixture
def board(worked: Pool, shell: Visit) -> Page:
    """The page after a login."""
    log_in(shell.page)
    return shell.page


def log_in(page: Page, key: str = MASTER) -> None:
    """Log in by the keyboard alone: the field has the focus."""
    expect(page.get_by_label("Master key")).to_be_focused()
    page.keyboard.insert_text(key)
    page.keyboard.press("Enter")


def row(page: Page, table: str, text: str) -> str:
    """Read the first row with `text` in a table."""
    return page.locator(f"#{table} tbody tr", has_text=text).first.inner_text()


def test_the_master_key_opens_the_board_and_a_wrong_one_says_so(shell: Visit) -> None:
    page = shell.page
    log_in(page, "sk-a-wrong-key")
    expect(page.get_by_role("alert")).to_have_text("This is not the master key")
    expect(page.locator("#board")).to_be_hidden()

    log_in(page)

    expect(page.locator("#board")).to_be_visible()
    expect(page.get_by_role("status")).to_have_text("Healthy")
    assert page.get_by_label("Master key").input_value() == ""


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(board: Page) -> None:
    expect(board.locator("#board")).to_be_visible()

    (cookie,) = board.context.cookies()

    assert (cookie["name"], cookie["path"]) == (COOKIE, "/pool")
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert board.evaluate("document.cookie") == ""


def test_what_the_pool_does_is_shown(board: Page) -> None:
    expect(board.locator("#lanes")).to_contain_text("large")

    assert "items" in row(board, "lanes", "small")
    assert "answered" in row(board, "requests", "large")
    assert "ready" in row(board, "keys", "…1234")
    assert "ready" in row(board, "keys", "…5678")
    assert "worker" in row(board, "processes", "worker")
    assert "400" in row(board, "faults", "small")
    expect(board.locator("#tiles")).to_contain_text("3 of 3")
    expect(board.locator("#tiles svg polyline")).to_have_count(2)
    text = board.locator("body").inner_text()
    assert not any(secret in text for secret in (*KEYS, LONE_KEY, MASTER))


def test_the_lines_of_a_batch_are_one_row_together(board: Page, worked: Pool) -> None:
    with client_of(worked, MASTER) as client:
        ended(client, begun(client, (line(f"{n}", f"text {n}", model="large") for n in range(7))))

    expect(board.locator("#requests")).to_contain_text("7 × answered")


@contextmanager
def named_by_a_stranger(pool: Pool) -> Iterator[None]:
    """Let a lane, a worker and a failure have a name that is markup."""
    names = Names()
    with store_at(pool.store_url) as store:
        client = store.client
        fields = {"r": encode([record(MARKUP, reason=MARKUP)]), "i": "1-1", "l": MARKUP}
        logged = client.xadd(names.spend_log, fields)
        listed = client.xadd(names.lanes, {"lane": MARKUP})
        client.xadd(names.lane(MARKUP).dead, {"model": MARKUP, "items": 1})
        until_ms = int(client.time()[0] * 1_000) + 60_000
        client.zadd(names.alive, {f"worker:{MARKUP}": until_ms})
        yield
        client.xdel(names.spend_log, logged)
        client.xdel(names.lanes, listed)
        client.delete(names.lane(MARKUP).dead)
        client.zrem(names.alive, f"worker:{MARKUP}")


def test_names_are_shown_as_they_are_and_never_run(board: Page, pool: Pool) -> None:
    with named_by_a_stranger(pool):
        for table in ("processes", "faults", "lanes"):
            expect(board.locator(f"#{table}")).to_contain_text(MARKUP)

        assert board.locator("#board img, #board script").count() == 0
        assert board.evaluate("window.pwned") is None


def test_a_long_name_is_broken_and_not_the_page(board: Page, pool: Pool) -> None:
    with named_by_a_stranger(pool):
        expect(board.locator("#faults")).to_contain_text(MARKUP)
        board.set_viewport_size(PHONE)  # type: ignore[arg-type]

        assert board.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_a_resting_key_is_named_until_it_is_back(board: Page, fake: FakeProvider) -> None:
    expect(board.get_by_role("status")).to_have_text("Healthy")
    fake.behave(Behaviour(key=LONE_KEY, calls=1, status=429, headers={"retry-after": "3"}))

    asked = {"model": "large", "input": "b", "timeout": 1}
    url = board.url.removesuffix("/")
    httpx.post(f"{url}/v1/embeddings", json=asked, headers=bearer(MASTER), trust_env=False)

    expect(board.get_by_role("status")).to_have_text("1 key resting")
    assert "cooling" in row(board, "keys", LONE_KEY[-4:])
    expect(board.get_by_role("status")).to_have_text("Healthy")


def test_what_comes_later_is_shown_without_a_reload(board: Page, pool: Pool) -> None:
    expect(board.locator("#board")).to_be_visible()
    asked = {"model": "small", "input": ["later"] * 33, "metadata": {"a": 1}}
    httpx.post(f"{pool.url}/v1/embeddings", json=asked, headers=bearer(MASTER), trust_env=False)

    expect(board.locator("#requests tbody tr", has_text="33").first).to_be_visible()


def test_whoever_prefers_dark_gets_it(board: Page) -> None:
    expect(board.locator("#board")).to_be_visible()

    board.emulate_media(color_scheme="light")
    light = colours(board)
    board.emulate_media(color_scheme="dark")
    dark = colours(board)

    assert light["ground"] - light["ink"] > 150
    assert dark["ink"] - dark["ground"] > 150


def colours(page: Page) -> dict[str, float]:
    """How bright the ground and the letters are, from 0 to 255."""
    script = """() => {
        const bright = (colour) => colour.match(/\\d+/g).slice(0, 3)
            .reduce((sum, part) => sum + Number(part), 0) / 3;
        const style = getComputedStyle(document.body);
        return {ground: bright(style.backgroundColor), ink: bright(style.color)};
    }"""
    found: dict[str, float] = page.evaluate(script)
    return found


def test_without_javascript_the_page_says_that_it_needs_it(pool: Pool, browser: Browser) -> None:
    with visit(browser, f"{pool.url}/", java_script_enabled=False) as seen:
        expect(seen.page.locator("noscript .notice")).to_be_visible()


def test_nobody_is_asked_while_nobody_looks(board: Page) -> None:
    expect(board.locator("#board")).to_be_visible()
    asked: list[str] = []
    board.on("request", lambda request: asked.append(request.url))
    board.clock.install()
    board.evaluate(
        "Object.defineProperty(document, 'visibilityState', {get: () => window.shown ?? 'hidden'});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    asked.clear()

    board.clock.run_for(60_000)
    assert asked == []

    with board.expect_response("**/pool/status"):
        board.evaluate(
            "window.shown = 'visible'; document.dispatchEvent(new Event('visibilitychange'))"
        )


def test_who_logs_out_sees_nothing_any_more(board: Page, pool: Pool) -> None:
    expect(board.locator("#lanes tbody tr").first).to_be_visible()

    board.get_by_role("button", name="Log out").click()

    expect(board.get_by_label("Master key")).to_be_focused()
    assert board.locator("#board td").count() == 0
    assert board.context.cookies() == []
    board.reload()
    expect(board.get_by_label("Master key")).to_be_visible()


def test_while_redis_is_away_the_last_look_is_greyed(board: Page, pool: Pool) -> None:
    expect(board.locator("#lanes")).to_contain_text("large")
    (valkey,) = pool.program.members("valkey-server")
    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        expect(board.get_by_role("status")).to_have_text("Redis is away")
        expect(board.locator("#board.stale")).to_be_visible()
        expect(board.locator("#when")).to_contain_text("ago")
        assert "items" in row(board, "lanes", "large")
    finally:
        os.kill(valkey.pid, signal.SIGCONT)

    expect(board.locator("#board:not(.stale)")).to_be_visible()


def test_work_under_way_is_seen_and_makes_a_picture(
    board: Page, fake: FakeProvider, tmp_path: Path
) -> None:
    wanted = os.environ.get("EMBEDPOOL_TEST_SCREENSHOT")
    board.set_viewport_size({"width": 1_200, "height": 900})

    with busy(board.url, fake):
        expect(board.locator("#tiles")).to_contain_text("oldest")
        expect(board.locator("#processes")).to_contain_text(re.compile(r"worker\s*[1-9]"))
        traced = re.compile(rf"(\S+ ){{{12 if wanted else 1}}}")
        trace = board.locator("#tiles polyline").first
        expect(trace).to_have_attribute("points", traced, timeout=60_000)
        path = Path(wanted or tmp_path / "status.png")
        board.screenshot(path=path, full_page=True)

    assert path.stat().st_size > 20_000


@contextmanager
def busy(url: str, fake: FakeProvider) -> Iterator[None]:
    """Keep a crowd of callers waiting for a slow provider."""
    is_over = Event()
    fake.behave(Behaviour(latency_s=0.4))

    def caller(number: int) -> None:
        with httpx.Client(base_url=url, headers=bearer(MASTER), trust_env=False) as client:
            for turn in count():
                if is_over.is_set():
                    return
                asked = {"model": "small", "input": [f"{number} {turn} {at}" for at in range(24)]}
                assert client.post("v1/embeddings", json=asked, timeout=30).is_success

    with ThreadPoolExecutor(CROWD * 4) as crowd:
        callers = [crowd.submit(caller, number) for number in range(CROWD * 4)]
        try:
            yield
        finally:
            fake.behave()
            is_over.set()
        for one in callers:
            one.result()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/embeddings"),
        ("GET", "/v1/models"),
        ("GET", "/key/list"),
        ("POST", "/key/generate"),
        ("GET", "/spend/logs"),
        ("GET", "/metrics"),
    ],
)
def test_the_cookie_opens_nothing_but_the_board(
    pool: Pool, plain_client: httpx.Client, method: str, path: str
) -> None:
    login = plain_client.post(f"{pool.url}/pool/login", json={"master_key": MASTER})
    cookie = login.headers["set-cookie"].partition(";")[0]
    plain_client.cookies.clear()
    body = {"model": "small", "input": "a"} if method == "POST" else None

    def ask(path: str) -> int:
        headers = {"cookie": cookie}
        return plain_client.request(
            method, f"{pool.url}{path}", headers=headers, json=body
        ).status_code

    assert ask(path) in {401, 404}
    if method == "GET":
        assert ask("/pool/status") == 200


def test_a_cookie_signed_by_anybody_else_opens_nothing(
    pool: Pool, plain_client: httpx.Client
) -> None:
    forged = Sessions(MASTER, Secrets("guessed")).begin(now_s=2_000_000_000.0, nonce="n")

    answer = plain_client.get(f"{pool.url}/pool/status", headers={"cookie": f"{COOKIE}={forged}"})

    assert answer.status_code == 401
