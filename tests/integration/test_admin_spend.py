"""What was spent, over HTTP: by account, and request by request."""

from __future__ import annotations

import json

import pytest

from embedpool_api.accounts import spend_log
from embedpool_shared.accounts import AccountKind
from embedpool_shared.jobs import LedgerRecord
from integration.administrator import Office, log, office, record, spend
from support.valkey import RedisServer

DAY_MS = 1_735_689_600_000  # 2025-01-01
NEXT = "x-embedpool-next-after"


async def ids(it: Office, **query: object) -> list[str]:
    return [row["request_id"] for row in await it.get("/spend/logs", **query)]


async def test_spend_is_listed_in_dollars_the_greatest_first(valkey: RedisServer) -> None:
    async with office(valkey) as it:
        await it.post("/team/new", {"team_id": "t", "team_alias": "search"})
        key = await it.key(key_alias="mine", team_id="t")
        spend(valkey, AccountKind.KEY, key["token_id"], cost=2_500_000_000_000, used=9, requests=3)
        spend(valkey, AccountKind.KEY, "0" * 24, cost=3_000_000_000_000)
        spend(valkey, AccountKind.TEAM, "t", cost=1, paid=4, saved=1, waste=2, used=3)
        spend(valkey, AccountKind.TAG, "a", cost=100_000_000_000, requests=2)
        spend(valkey, AccountKind.GLOBAL, "all", cost=5_500_000_000_000, used=12, requests=5)

        gone, mine = await it.get("/spend/keys")
        assert (gone["token_id"], gone["token"], gone["spend"]) == ("0" * 24, None, 3.0)
        assert (mine["key_alias"], mine["team_id"], mine["spend"]) == ("mine", "t", 2.5)
        assert (mine["total_tokens"], mine["requests"]) == (9, 3)
        (team,) = await it.get("/spend/teams")
        assert (team["team_alias"], team["spend"], team["waste"]) == ("search", 1e-12, 2)
        (tag,) = await it.get("/spend/tags")
        assert (tag["individual_request_tag"], tag["log_count"], tag["total_spend"]) == (
            "a",
            2,
            0.1,
        )
        assert await it.get("/spend/users") == []
        everybody = await it.get("/global/spend")
        assert (everybody["spend"], everybody["total_tokens"], everybody["requests"]) == (
            5.5,
            12,
            5,
        )
        assert (await it.get("/spend/keys", size=1, page=2))[0]["token_id"] == key["token_id"]
        assert (await it.get("/key/info", key=key["key"]))["info"]["spend"] == 2.5


async def test_a_usage_record_says_who_asked_what_it_cost_and_what_was_noted(
    valkey: RedisServer,
) -> None:
    async with office(valkey) as it:
        key = await it.key()
        accounts = ("team:t", "user:u", "end_user:e:1", "tag:a", "tag:b")
        log(
            valkey,
            [
                record(
                    "r",
                    account=f"key:{key['token_id']}",
                    accounts=accounts,
                    metadata='{"x":1}',
                    price=20_000,
                )
            ],
            at_ms=DAY_MS,
        )

        (row,) = await it.get("/spend/logs")

        assert row["request_id"] == "req_r"
        assert row["token_id"] == row["api_key"] == key["token_id"]
        assert (row["team_id"], row["user"], row["end_user"]) == ("t", "u", "e:1")
        assert (row["model"], row["provider"]) == ("m", "openai")
        assert (row["prompt_tokens"], row["total_tokens"], row["spend"]) == (10, 10, 2e-7)
        assert (row["metadata"], row["request_tags"]) == ({"x": 1}, ["a", "b"])
        assert (row["used"], row["paid"], row["saved"], row["waste"]) == (10, 10, 0, 0)
        assert row["startTime"] == "2025-01-01T00:00:00+00:00"
        assert (row["reason"], row["status"]) == (None, "success")


async def test_the_log_is_filtered(valkey: RedisServer) -> None:
    async with office(valkey) as it:
        key = await it.key()
        own = f"key:{key['token_id']}"
        log(valkey, [record("a", account=own)], [record("b", accounts=("team:t",))], at_ms=DAY_MS)
        log(valkey, [record("c", accounts=("user:u",), model="n")], at_ms=DAY_MS + 86_400_000)

        assert await ids(it) == ["req_c", "req_b", "req_a"]
        for name in ("key", "token", "token_id"):
            assert await ids(it, api_key=key[name]) == ["req_a"]
        assert await ids(it, team_id="t") == ["req_b"]
        assert await ids(it, user_id="u") == ["req_c"]
        assert await ids(it, user_id="u", team_id="t") == []
        assert await ids(it, model="n") == ["req_c"]
        assert await ids(it, request_id="req_b") == ["req_b"]
        assert await ids(it, start_date="2025-01-02") == ["req_c"]
        assert await ids(it, end_date="2025-01-01") == ["req_b", "req_a"]
        assert await ids(it, start_date="2025-01-01T12:00:00Z", end_date="2025-01-03") == ["req_c"]


async def test_pages_of_the_log_hold_every_row_once(valkey: RedisServer) -> None:
    async with office(valkey) as it:
        for start in range(0, 60, 6):
            log(valkey, [record(f"{start + at}") for at in range(6)])

        seen: list[str] = []
        query: dict[str, object] = {"limit": 7}
        while True:
            response = await it.ask("GET", "/spend/logs", params=query)
            seen += [row["request_id"] for row in response.json()]
            if NEXT not in response.headers:
                break
            query["after"] = response.headers[NEXT]

        assert seen == [f"req_{number}" for number in range(59, -1, -1)]


async def test_the_parts_of_a_request_are_one_row_on_one_page(valkey: RedisServer) -> None:
    async with office(valkey) as it:
        parts = [record("big", part=part, jobs=4, tokens=part + 1) for part in range(4)]
        log(valkey, [parts[2], record("x")], [parts[0], record("y")], [parts[3], parts[1]])

        first = await it.ask("GET", "/spend/logs", params={"limit": 1})
        second = await it.ask(
            "GET", "/spend/logs", params={"limit": 5, "after": first.headers[NEXT]}
        )

        assert [row["request_id"] for row in first.json()] == ["req_y"]
        assert [row["request_id"] for row in second.json()] == ["req_big", "req_x"]
        assert second.json()[0]["total_tokens"] == 1 + 2 + 3 + 4
        assert second.json()[0]["items"] == 4


async def test_a_page_looks_at_a_bounded_part_of_the_log_and_leads_on(
    valkey: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spend_log, "STEP", 2)
    monkeypatch.setattr(spend_log, "MAX_READ_ENTRIES", 4)
    async with office(valkey) as it:
        log(valkey, *([record(f"{at}", model="rare" if at == 0 else "m")] for at in range(9)))

        query: dict[str, object] = {"model": "rare"}
        pages = 1
        response = await it.ask("GET", "/spend/logs", params=query)
        while NEXT in response.headers:
            assert response.json() == []
            response = await it.ask(
                "GET", "/spend/logs", params=query | {"after": response.headers[NEXT]}
            )
            pages += 1

        assert [row["request_id"] for row in response.json()] == ["req_0"]
        assert pages == 3


async def test_the_whole_log_comes_as_lines_and_the_columns_balance(valkey: RedisServer) -> None:
    async with office(valkey) as it:
        fenced = record("big", part=0, jobs=2, tokens=7, reason="fenced", price=0)
        log(
            valkey,
            [record("a")],
            [record("big", part=1, jobs=2)],
            [fenced],
            [record("big", part=0, jobs=2)],
            [record("cut", part=1, jobs=2)],
        )

        response = await it.ask("GET", "/spend/logs", params={"format": "jsonl", "limit": 1})

        assert response.headers["content-type"] == "application/jsonl"
        rows = [json.loads(line) for line in response.text.splitlines()]
        assert [row["request_id"] for row in rows] == ["req_a", "req_big", "req_big", "req_cut"]
        assert sum(row["used"] + row["waste"] for row in rows) == 47
        assert sum(row["paid"] + row["saved"] for row in rows) == 47
        assert {row["reason"] for row in rows} == {None, "fenced"}


async def test_a_holder_sees_its_own_records_only(valkey: RedisServer) -> None:
    async with office(valkey) as it:
        own, other = await it.key(), await it.key()
        entries: list[LedgerRecord] = [
            record(name, account=f"key:{key['token_id']}")
            for name, key in (("own", own), ("other", other))
        ]
        log(valkey, entries)

        for query in ({}, {"api_key": own["key"]}, {"user_id": ""}):
            rows = await it.get("/spend/logs", key=own["key"], **query)
            assert [row["request_id"] for row in rows] == ["req_own"]
        lines = await it.ask("GET", "/spend/logs?format=jsonl", key=own["key"])
        assert "req_other" not in lines.text
        response = await it.ask("GET", f"/spend/logs?api_key={other['token']}", key=own["key"])
        assert response.status_code == 403


@pytest.mark.parametrize(
    ("query", "status", "param"),
    [
        ("limit=0", 400, "limit"),
        ("limit=1001", 400, "limit"),
        ("after=yesterday", 400, "after"),
        ("start_date=tomorrow", 400, "start_date"),
        ("end_date=2025-13-01", 400, "end_date"),
        ("format=xml", 400, "format"),
        ("api_key=nobody", 404, "key"),
    ],
)
async def test_a_bad_question_about_the_log_is_refused(
    valkey: RedisServer, query: str, status: int, param: str
) -> None:
    async with office(valkey) as it:
        assert (await it.refused(f"/spend/logs?{query}", status=status))["param"] == param


async def test_without_redis_the_export_is_a_503(valkey: RedisServer) -> None:
    async with office(valkey) as it:
        valkey.pause()

        await it.refused("/spend/logs?format=jsonl", status=503)

        valkey.resume()


async def test_model_info_shows_what_the_caller_may_use_and_no_credential(
    valkey: RedisServer,
) -> None:
    async with office(valkey, passthrough=True) as it:
        key = await it.key(models=["wordllama"])

        everything = (await it.get("/v1/model/info"))["data"]
        mine = (await it.get("/model/info", key=key["key"]))["data"]

        names = [model["model_name"] for model in everything]
        assert names == sorted(
            ["text-embedding-3-small", "wordllama", "cohere/embed-english-v3.0", "mistral/*"]
        )
        assert [model["model_name"] for model in mine] == ["wordllama"]
        assert mine[0]["model_info"]["output_vector_size"] == 256
        assert mine[0]["model_info"]["max_input_tokens"] == 8_192
        assert mine[0]["model_info"]["aliases"] == ["default"]
        assert mine[0]["litellm_params"] == {"model": "wordllama", "custom_llm_provider": "local"}
        stranger = "an-openai-key-of-somebody-0123456789"
        await it.refused("/model/info", status=403, key=stranger)
