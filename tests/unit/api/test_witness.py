"""Every request is told of once: counted, logged and traced by what it came to."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from embedpool_api.allowances import Limit, TooFast
from embedpool_api.callers import Caller
from embedpool_api.middleware import Edge
from embedpool_api.outbox import no_worker, queue_unavailable
from embedpool_api.passage import PASSAGE, ClientDisconnected, Passage
from embedpool_api.paths import EMBEDDINGS, route_of
from embedpool_api.posted import Answer, PostedJob, PostedPack
from embedpool_api.refusals import refusal_reason
from embedpool_shared import errors
from embedpool_shared.accounts import Identity, KeyRecord, TeamRecord
from embedpool_shared.embedding.models import resolve
from embedpool_shared.jobs import LaneClass, MergeKey
from embedpool_shared.measures import REFUSAL, ROUTE
from embedpool_shared.statuses import STATUS_OF
from support.cards import CATALOG
from unit.api.watched import MODEL, RESOLVED, Watched, order_of, reply_of

CANARY: Final = "canary-text-of-a-caller"


def served(watched: Watched, inner: Any, path: str = "/v1/embeddings", **headers: str) -> None:
    """Let one request through the edge; `inner` gets its passage and the way to answer."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await inner(scope[PASSAGE], send)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(_: Message) -> None:
        return

    scope = {
        "type": "http", "method": "POST", "path": path,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    asyncio.run(Edge(app, watched.witness)(scope, receive, send))


async def ok(send: Send, body: bytes = b"12345") -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def answered(passage: Passage, send: Send) -> None:
    passage.caller, passage.resolved, passage.order = CALLER, RESOLVED, order_of("a", CANARY)
    passage.bytes_in = 40
    passage.answer = Answer(1, asyncio.get_running_loop(), give_up_at=1e9)
    posted = PostedJob(passage.answer, 0, _job(), MergeKey(MODEL))
    posted.pack = PostedPack("pack-1", LaneClass.INTERACTIVE, 1, 2, 40, 0, 1.0, is_accepted=True)
    passage.answer.jobs.append(posted)
    passage.answered([reply_of(cached=1)])
    await ok(send)


def _job() -> Any:
    from embedpool_shared.jobs import Job  # noqa: PLC0415

    return Job(3, 0, ["a", CANARY], 1_000, 40)


TEAM: Final = TeamRecord(id="t-1", alias="blue")
CALLER: Final = Caller(
    account="key:k-1",
    identity=Identity(key=KeyRecord(id="k-1", digest="d", name="sk-ep-…abcd"), team=TEAM),
)


def failing(error: BaseException, **known: Any) -> Any:
    async def inner(passage: Passage, _: Send) -> None:
        for name, value in known.items():
            setattr(passage, name, value)
        raise error

    return inner


def test_an_answered_request_is_counted_by_all_that_is_known_of_it() -> None:
    watched = Watched()

    served(watched, answered)

    interactive = f"{MODEL} interactive"
    assert watched.values() == {
        f"requests_total embeddings {MODEL} 200": 1,
        f"request_seconds {interactive}": 1,
        f"inputs_total {interactive}": 2,
        f"queue_seconds {interactive}": 1,
        f"provider_seconds {MODEL}": 1,
        f"tokens_total {MODEL} blue": 12,
        f"spend_usd_total {MODEL} blue": pytest.approx(12 * 20_000 / 1e12),
        f"cache_items_total {MODEL} hit": 1,
        f"cache_items_total {MODEL} miss": 1,
        "build_info api 1": 1,
    }


def test_its_line_says_the_same_and_joins_with_its_provider_call() -> None:
    watched = Watched()

    served(watched, answered, **{"x-request-id": "mine"})

    [line] = watched.lines
    assert line.pop("total_ms") >= 0
    assert line.pop("at")
    assert line == {
        "event": "request", "level": "info", "id": "mine", "method": "POST",
        "route": "embeddings", "status": 200, "bytes_in": 40, "bytes_out": 5,
        "caller": "key:k-1", "model": MODEL, "lane_class": "interactive", "items": 2,
        "tokens": 12, "usd": pytest.approx(2.4e-7), "cached_items": 1, "queue_ms": 1.5,
        "provider_ms": 33.0, "batch_items": 20, "batch_requests": 9, "provider": "openai",
        "deployment": "openai/small", "tries": 1, "jobs": ["pack-1:3"],
    }  # fmt: skip
    assert CANARY not in json.dumps(line)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (errors.InvalidApiKey("no"), "auth"),
        (errors.RouteNotAllowed("no"), "auth"),
        (errors.ModelNotFound("no"), "model"),
        (errors.ModelNotAllowed("no"), "model"),
        (errors.BadRequest("no"), "invalid"),
        (errors.NotJson("no"), "invalid"),
        (errors.BodyTooLarge("no"), "too_large"),
        (errors.BudgetExceeded("no"), "budget"),
        (errors.RequestExceedsLimit("no"), "invalid"),
        (errors.Overloaded("no"), "queue_full"),
        (no_worker("no"), "no_worker"),
        (queue_unavailable("no"), "redis"),
        (errors.DeadlineExceeded("no"), "deadline"),
        *(
            (TooFast("no", retry_after_s=1, headers=[], limit=limit), name)
            for limit, name in ((Limit.REQUESTS, "rpm"), (Limit.TOKENS, "tpm"))
        ),
        (TooFast("no", retry_after_s=1, headers=[], limit=Limit.PARALLEL), "parallel"),
    ],
)
def test_a_refusal_has_its_reason(error: Exception, reason: str) -> None:
    watched = Watched()

    served(watched, failing(error))

    values = watched.values()
    assert values[f"refusals_total {reason}"] == 1
    assert values["request_seconds unknown interactive"] == 1
    assert watched.lines[0]["error"] == type(error).__name__
    assert "usd" not in watched.lines[0]


def test_every_reason_of_the_table_is_one_that_some_error_has() -> None:
    limits = [TooFast("", retry_after_s=1, headers=[], limit=limit) for limit in Limit]
    known = [cls("") for cls in STATUS_OF]

    found = {refusal_reason(error) for error in (*limits, *known, no_worker(""))}

    assert found - {None} == set(REFUSAL.values)


def test_what_a_worker_refuses_is_no_refusal_before_the_queue() -> None:
    watched = Watched()
    own = {"is_accepted": True, "jobs": [], "let_go": lambda _: None}
    answer: Any = type("Accepted", (), own)()

    served(watched, failing(errors.InputRefused("no"), answer=answer, resolved=RESOLVED))

    assert not any(name.startswith("refusals_total") for name in watched.values())
    assert watched.values()[f"requests_total embeddings {MODEL} 400"] == 1


def test_a_caller_that_hung_up_was_not_answered() -> None:
    watched = Watched()

    served(watched, failing(ClientDisconnected(), resolved=RESOLVED))

    values = watched.values()
    assert values[f"client_disconnects_total {MODEL}"] == 1
    assert not any(name.startswith("requests_total") for name in values)
    assert "requests_in_flight" not in values
    assert watched.lines[0]["status"] == 499


def test_a_slow_request_is_counted_and_its_line_is_a_warning() -> None:
    watched = Watched(slow_request_s=1e-9, level=logging.WARNING)

    served(watched, answered)

    [line] = watched.lines
    assert (line["level"], line["is_slow"]) == ("warning", True)
    assert watched.values()[f"slow_requests_total {MODEL}"] == 1


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (errors.Overloaded("x"), "warning"),
        (RuntimeError(CANARY), "error"),
        (errors.BadRequest("x"), "info"),
    ],
    ids=["we cannot", "our bug", "their mistake"],
)
def test_the_level_says_whose_trouble_it_is(error: Exception, level: str) -> None:
    watched = Watched()

    served(watched, failing(error))

    assert watched.lines[0]["level"] == level
    assert CANARY not in json.dumps(watched.lines)


def test_probes_are_no_news() -> None:
    watched = Watched(level=logging.DEBUG)

    async def inner(_: Passage, send: Send) -> None:
        await ok(send)

    served(watched, inner, "/healthz")

    assert watched.lines[0]["level"] == "debug"


def test_while_it_is_answered_it_is_in_flight() -> None:
    watched = Watched()
    seen: list[float] = []

    async def inner(_: Passage, send: Send) -> None:
        seen.append(watched.values()["requests_in_flight"])
        await ok(send)

    served(watched, inner)

    assert seen == [1]
    assert "requests_in_flight" not in watched.values()


@given(st.lists(st.text(max_size=40), max_size=30))
def test_whatever_callers_ask_for_makes_no_series(names: list[str]) -> None:
    watched = Watched()
    before = watched.series()

    for name in names:
        served(watched, failing(errors.ModelNotFound(name)), **{"x-model": "x"})

    assert watched.series() == before


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v1/embeddings", "embeddings"),
        ("/engines/a/b/embeddings", "embeddings"),
        ("/v1/models/x", "models"),
        ("/key/info", "keys"),
        ("/team/new", "teams"),
        ("/user/list", "users"),
        ("/global/spend", "spend"),
        ("/v1/files/x/content", "files"),
        ("/v1/batches", "batches"),
        ("/", "ops"),
        ("/metrics", "ops"),
        (f"/{CANARY}", "other"),
        ("/v1", "ops"),
    ],
)
def test_a_route_is_one_of_the_table(path: str, route: str) -> None:
    assert route_of(path) == route
    assert route in ROUTE.values


def test_another_route_is_about_no_model() -> None:
    watched = Watched()

    async def inner(_: Passage, send: Send) -> None:
        await ok(send)

    served(watched, inner, "/v1/models")

    assert watched.values() == {"requests_total models - 200": 1, "build_info api 1": 1}


def test_its_span_is_below_its_callers_and_says_what_it_was() -> None:
    traced = pytest.importorskip("unit.shared.test_telemetry_tracing")
    collected = traced.Collected()
    watched = Watched(tracing=collected.tracing)

    served(watched, answered, traceparent=traced.PARENT)

    [span] = collected.spans
    assert f"{span.context.trace_id:032x}" == traced.PARENT.split("-")[1]
    assert span.attributes["gen_ai.operation.name"] == "embeddings"
    assert span.attributes["gen_ai.request.model"] == MODEL
    assert span.attributes["gen_ai.usage.input_tokens"] == 12
    assert CANARY not in span.to_json()


def test_a_hundred_thousand_random_models_make_at_most_one_series() -> None:
    watched = Watched()
    before = watched.series()

    async def unknown(scope: Scope, _: Receive, send: Send) -> None:
        scope[PASSAGE].resolved = resolve(CATALOG, scope["path"].split("/")[2])

    async def nothing(*_: Any) -> Any:
        return

    async def all_of_them() -> None:
        edge = Edge(unknown, watched.witness)
        for number in range(100_000):
            path = f"/engines/model-{number}-{secrets.token_hex(4)}/embeddings"
            scope = {"type": "http", "method": "POST", "path": path, "headers": []}
            await edge(scope, nothing, nothing)

    asyncio.run(all_of_them())

    assert watched.values()[f"requests_total {EMBEDDINGS} unknown 404"] == 100_000
    assert watched.series() <= before + 1
