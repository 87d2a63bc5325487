"""Virtual keys over HTTP, with LiteLLM's names and shapes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from embedpool_api.credentials import INVALID
from integration.administrator import WITHOUT, Office, office
from support.valkey import RedisServer

ALL_FIELDS = {
    "key_alias": "mine",
    "duration": "30d",
    "models": ["text-embedding-3-small", "mistral/*"],
    "tpm_limit": 1_000,
    "rpm_limit": 60,
    "max_parallel_requests": 4,
    "max_budget": 0.1,
    "soft_budget": 0.05,
    "budget_duration": "1mo",
    "team_id": "t",
    "user_id": "u",
    "metadata": {"project": "search"},
    "tags": ["a", "b"],
    "blocked": False,
    "share_across": "team",
    "default_class": "bulk",
}


async def test_a_key_is_made_as_asked_and_shown_once(valkey: RedisServer) -> None:
    async with office(valkey) as it:
        await it.post("/team/new", {"team_id": "t"})

        made = await it.key(**ALL_FIELDS)

        for field, value in ALL_FIELDS.items():
            if field != "duration":
                assert made[field] == value, field
        assert made["key"].startswith("sk-ep-")
        assert len(made["key"]) >= len("sk-ep-") + 43
        assert made["key_name"] == f"sk-ep-...{made['key'][-4:]}"
        assert made["spend"] == 0
        expires = datetime.fromisoformat(made["expires"])
        assert 29 <= (expires - datetime.now(UTC)).days <= 30
        assert datetime.fromisoformat(made["budget_reset_at"]).day == 1
        assert it.answers[-1][1].headers["cache-control"] == "no-store"
        info = await it.get("/key/info", key=made["key"])
        assert info["info"] == {name: made[name] for name in info["info"]}
        assert "key" not in info["info"]
        assert (await it.get("/user/info", user_id="u"))["keys"] == [info["info"]]


async def test_two_keys_are_different_and_both_work(valkey: RedisServer) -> None:
    async with office(valkey) as it:
        one, other = await it.key(), await it.key()

        assert one["key"] != other["key"]
        assert (await it.get("/key/info", key=one["key"]))["key"] == one["token"]
        assert (await it.get("/key/info", key=other["key"]))["key"] == other["token"]


async def test_a_key_of_ones_own_is_taken_if_nobody_can_guess_it(valkey: RedisServer) -> None:
    async with office(valkey) as it:
        own = "sk-ep-0123456789abcdef0123456789abcdef"

        assert (await it.key(key=own))["key"] == own
        assert (await it.refused("/key/generate", {"key": own}))["param"] == "key"
        for bad in (
            "sk-1234",
            "sk-ep-short",
            "sk-proj-0123456789abcdef0123456789abcdef",
            "x" * 300,
        ):
            error = await it.refused("/key/generate", {"key": bad})
            assert error["param"] == "key"
            assert bad not in error["message"]


async def test_a_key_is_named_by_itself_by_its_token_or_by_its_id(valkey: RedisServer) -> None:
    async with office(valkey) as it:
        made = await it.key(key_alias="mine")

        for name in ("key", "token", "token_id"):
            response = await it.ask("GET", f"/key/info?key={made[name]}")
            assert response.json()["info"]["key_alias"] == "mine", name
            assert (await it.post("/key/block", {"key": made[name]}))["blocked"] is True
            assert (await it.post("/key/unblock", {"key": made[name]}))["blocked"] is False


async def test_a_change_leaves_alone_what_it_does_not_name_and_null_is_none(
    valkey: RedisServer,
) -> None:
    async with office(valkey) as it:
        await it.post("/team/new", {"team_id": "t"})
        made = await it.key(**ALL_FIELDS)

        changed = await it.post(
            "/key/update",
            {"key": made["key"], "rpm_limit": 5, "tpm_limit": None, "duration": "-1", "tags": []},
        )

        expected = {**changed, "rpm_limit": 5, "tpm_limit": None, "expires": None, "tags": []}
        assert changed == expected
        kept = set(ALL_FIELDS) - {"rpm_limit", "tpm_limit", "duration", "tags"}
        assert {name: changed[name] for name in kept} == {name: ALL_FIELDS[name] for name in kept}


async def test_a_blocked_key_stays_blocked_by_a_change_that_says_nothing_of_it(
    valkey: RedisServer,
) -> None:
    async with office(valkey) as it:
        made = await it.key(blocked=True)

        changed = await it.post("/key/update", {"key": made["token"], "blocked": None})

        assert changed["blocked"] is True
        error = await it.refused("/key/info", status=401, key=made["key"])
        assert error["message"].startswith(INVALID)


@pytest.mark.parametrize("by_path", [False, True], ids=["body", "path"])
async def test_a_regenerated_key_is_another_one_with_the_same_id(
    valkey: RedisServer, by_path: bool
) -> None:
    async with office(valkey) as it:
        made = await it.key(key_alias="mine", rpm_limit=5)
        path = f"/key/{made['token_id']}/regenerate" if by_path else "/key/regenerate"
        named = {} if by_path else {"key": made["key"]}

        again = await it.post(path, {**named, "rpm_limit": 7})

        assert again["key"] != made["key"]
        assert again["token"] != made["token"]
        assert (again["token_id"], again["key_alias"]) == (made["token_id"], "mine")
        assert again["rpm_limit"] == 7
        await it.refused("/key/info", status=401, key=made["key"])
        assert (await it.get("/key/info", key=again["key"]))["key"] == again["token"]


async def test_deleted_keys_are_refused_at_once(valkey: RedisServer) -> None:
    async with office(valkey) as it:
        one, two, three = await it.key(), await it.key(key_alias="two"), await it.key()
        await it.get("/key/info", key=one["key"])

        gone = await it.post("/key/delete", {"keys": [one["key"]], "key_aliases": ["two"]})

        assert gone == {"deleted_keys": [one["token_id"], two["token_id"]]}
        await it.refused("/key/info", status=401, key=one["key"])
        await it.refused("/key/info", status=401, key=two["key"])
        await it.refused("/key/delete", {"keys": [three["token"], one["token"]]}, status=404)
        await it.refused("/key/delete", {"key_aliases": ["two"]}, status=404)
        await it.refused("/key/delete", {})
        assert await it.get("/key/info", key=three["key"])


async def test_keys_are_listed_by_page_and_by_owner(valkey: RedisServer) -> None:
    async with office(valkey) as it:
        await it.post("/team/new", {"team_id": "t"})
        made = [await it.key(team_id="t" if at % 2 else None) for at in range(5)]

        listed = await it.get("/key/list", size=2, page=2)
        theirs = await it.get("/key/list", team_id="t", return_full_object="true")

        youngest_first = [key["token"] for key in made][::-1]
        assert listed["keys"] == youngest_first[2:4]
        assert (listed["total_count"], listed["total_pages"]) == (5, 3)
        assert [key["token"] for key in theirs["keys"]] == [made[3]["token"], made[1]["token"]]


async def test_an_alias_belongs_to_one_key(valkey: RedisServer) -> None:
    async with office(valkey) as it:
        await it.key(key_alias="mine")
        other = await it.key(key_alias="other")

        for path, body in (
            ("/key/generate", {"key_alias": "mine"}),
            ("/key/update", {"key": other["key"], "key_alias": "mine"}),
        ):
            assert (await it.refused(path, body))["param"] == "key_alias"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"rpm_limit": -1}, "rpm_limit"),
        ({"rpm_limit": True}, "rpm_limit"),
        ({"tpm_limit": "many"}, "tpm_limit"),
        ({"max_parallel_requests": 1.5}, "max_parallel_requests"),
        ({"max_budget": -0.01}, "max_budget"),
        ({"max_budget": 1e300}, "max_budget"),
        ({"duration": "soon"}, "duration"),
        ({"duration": "0s"}, "duration"),
        ({"duration": "999999999d"}, "duration"),
        ({"budget_duration": "-1"}, "budget_duration"),
        ({"budget_duration": "3mo"}, "budget_duration"),
        ({"models": "all"}, "models"),
        ({"models": ["m", 3]}, "models[1]"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {"x": "y" * 5_000}}, "metadata"),
        ({"tags": ["x" * 300]}, "tags[0]"),
        ({"key_alias": "a\nb"}, "key_alias"),
        ({"user_id": "a}b"}, "user_id"),
        ({"team_id": "nobody"}, "team_id"),
        ({"share_across": "everybody"}, "share_across"),
        ({"default_class": "slow"}, "default_class"),
        ({"blocked": "perhaps"}, "blocked"),
        ({"rmp_limit": 5}, "rmp_limit"),
        ({"allowed_routes": ["/v1/embeddings"]}, "allowed_routes"),
        ({"model_rpm_limit": {"m": 5}}, "model_rpm_limit"),
        (b"{", None),
        (b"[]", None),
        (b"\xff", None),
    ],
    ids=str,
)
async def test_a_bad_body_is_a_400_that_names_the_field_and_makes_no_key(
    valkey: RedisServer, body: Any, param: str | None
) -> None:
    async with office(valkey) as it:
        error = await it.refused("/key/generate", body)

        assert error["param"] == param
        assert error["type"] == "invalid_request_error"
        assert (await it.get("/key/list"))["total_count"] == 0


async def test_a_typo_is_a_400_with_a_suggestion(valkey: RedisServer) -> None:
    async with office(valkey) as it:
        error = await it.refused("/key/generate", {"rmp_limit": 5})

        assert "did you mean `rpm_limit`?" in error["message"]


async def test_a_body_without_a_content_type_is_read_all_the_same(valkey: RedisServer) -> None:
    async with office(valkey) as it:
        response = await it.ask("POST", "/key/generate", content=b'{"rpm_limit": 3}')

        assert response.json()["rpm_limit"] == 3
        assert (await it.ask("POST", "/key/generate", content=b"")).status_code == 200
        too_large = await it.ask("POST", "/key/generate", content=b" " * 2_000_000)
        assert too_large.status_code == 413


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/key/generate"),
        ("POST", "/key/update"),
        ("POST", "/key/delete"),
        ("POST", "/key/block"),
        ("POST", "/key/unblock"),
        ("POST", "/key/regenerate"),
        ("POST", "/key/x/regenerate"),
        ("GET", "/key/list"),
        ("POST", "/team/new"),
        ("POST", "/team/update"),
        ("POST", "/team/delete"),
        ("POST", "/team/block"),
        ("POST", "/team/unblock"),
        ("GET", "/team/info?team_id=t"),
        ("GET", "/team/list"),
        ("POST", "/user/new"),
        ("POST", "/user/update"),
        ("POST", "/user/delete"),
        ("GET", "/user/info?user_id=u"),
        ("GET", "/user/list"),
        ("GET", "/spend/keys"),
        ("GET", "/spend/teams"),
        ("GET", "/spend/users"),
        ("GET", "/spend/tags"),
        ("GET", "/global/spend"),
    ],
)
async def test_only_the_master_key_is_an_administrator(
    valkey: RedisServer, method: str, path: str
) -> None:
    async with office(valkey, passthrough=True) as it:
        made = await it.key()

        for key, status in (
            (made["key"], 403),
            ("sk-somebody-elses-own-provider-key-0123", 403),
            ("sk-ep-unknown", 401),
            (made["token"], 401),
            (WITHOUT, 401),
        ):
            response = await it.ask(method, path, key=key, content=b"{}")
            assert response.status_code in ({403, 401} if key == made["token"] else {status}), key
            assert "error" in response.json()


async def test_a_holder_sees_its_own_key_and_no_other(valkey: RedisServer) -> None:
    async with office(valkey) as it:
        own, other = await it.key(), await it.key()

        assert (await it.get("/key/info", key=own["key"]))["key"] == own["token"]
        response = await it.ask("GET", f"/key/info?key={own['token']}", key=own["key"])
        assert response.status_code == 200
        for named in (other["key"], other["token"], "nobody"):
            response = await it.ask("GET", f"/key/info?key={named}", key=own["key"])
            assert response.status_code == 403
        await it.refused("/key/info")
        await it.refused("/key/info?key=nobody", status=404)


async def test_in_open_mode_this_machine_looks_and_changes_nothing(valkey: RedisServer) -> None:
    async with office(valkey, master_key=None) as it:
        error = await it.refused("/key/generate", {}, status=403, key=WITHOUT)

        assert "EMBEDPOOL_MASTER_KEY" in error["message"]
        for path in ("/global/spend", "/spend/keys", "/spend/logs", "/model/info"):
            await it.get(path, key=WITHOUT)
        await it.refused("/key/info", status=403, key=WITHOUT)


async def test_no_answer_but_that_which_makes_it_shows_a_key(valkey: RedisServer) -> None:
    async with office(valkey) as it:
        await it.post("/team/new", {"team_id": "t"})
        keys = [await it.key(team_id="t", user_id="u", key_alias=f"k{at}") for at in range(3)]
        again = await it.post("/key/regenerate", {"key": keys[0]["key"]})
        secrets = [key["key"] for key in (*keys, again)]
        await _look_at_everything(it, secrets)

        makers = {"/key/generate", "/key/regenerate"}
        for path, response in it.answers:
            shown = [secret for secret in secrets if secret in response.text]
            assert len(shown) == (path in makers), path


async def _look_at_everything(it: Office, secrets: list[str]) -> None:
    for path in (
        "/key/list?return_full_object=true",
        "/team/info?team_id=t",
        "/team/list",
        "/user/info?user_id=u",
        "/user/list",
        "/spend/keys",
        "/spend/logs",
        "/model/info",
        "/openapi.json",
    ):
        await it.ask("GET", path)
    for secret in secrets:
        await it.ask("GET", f"/key/info?key={secret}")
        await it.ask("GET", f"/spend/logs?api_key={secret}")
        await it.ask("GET", "/key/info", key=secret)
        for path in ("/key/update", "/key/block", "/key/unblock"):
            await it.ask("POST", path, json={"key": secret, "key_alias": "k1", "rmp_limit": 1})
        await it.ask("POST", "/key/delete", json={"keys": [secret]})
        await it.ask("POST", "/key/delete", json={"keys": [secret]})


async def test_without_redis_an_administrator_gets_a_503_in_time(valkey: RedisServer) -> None:
    async with office(valkey) as it:
        await it.key()
        valkey.pause()
        started = asyncio.get_running_loop().time()

        error = await it.refused("/key/generate", {}, status=503)

        assert error["code"] == "queue_unavailable"
        assert asyncio.get_running_loop().time() - started < 3
        valkey.resume()
        await it.key()
