"""Teams and users over HTTP, and what LiteLLM's own clients send."""

from __future__ import annotations

from typing import Any

import pytest

from integration.administrator import Office, office
from support.valkey import RedisServer

MAKERS = {
    "GenerateKeyRequest": ("/key/generate", {}),
    "RegenerateKeyRequest": ("/key/regenerate", {"key": "key"}),
    "UpdateKeyRequest": ("/key/update", {"key": "key"}),
    "NewTeamRequest": ("/team/new", {}),
    "UpdateTeamRequest": ("/team/update", {"team_id": "t"}),
    "NewUserRequest": ("/user/new", {}),
    "UpdateUserRequest": ("/user/update", {"user_id": "u"}),
}
"""LiteLLM's bodies, where they go, and what they cannot be without."""
EMPTY_WORDS = {"blocked": False, "send_invite_email": False, "auto_rotate": False, "spend": 0}
EMPTIES: tuple[Any, ...] = (None, "", [], {})


def empty_body(request: type[Any], value: Any) -> dict[str, Any]:
    """Every field of LiteLLM's request, as one who sets none of them may write it."""
    texts = {name for name, field in request.model_fields.items() if "str" in str(field.annotation)}
    body = dict.fromkeys(request.model_fields)
    if value == "":
        body |= dict.fromkeys(texts & {"key_alias", "duration", "team_id", "user_id", "key"}, "")
    elif value == []:
        body |= {"models": [], "tags": [], "allowed_routes": [], "guardrails": []}
    elif value == {}:
        body |= {"metadata": {}, "aliases": {}, "config": {}, "permissions": {}, "blocked": None}
        body |= {"model_rpm_limit": {}, "model_max_budget": {}, "object_permission": {}}
    return body | {name: word for name, word in EMPTY_WORDS.items() if name in body}


@pytest.mark.parametrize("name", MAKERS)
async def test_litellms_bodies_with_every_field_empty_are_accepted(
    valkey: RedisServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    request = getattr(pytest.importorskip("litellm.proxy._types"), name)
    path, needed = MAKERS[name]
    async with office(valkey) as it:
        await it.post("/team/new", {"team_id": "t"})
        await it.post("/user/new", {"user_id": "u"})
        key = (await it.key())["token_id"]

        for value in EMPTIES:
            own = {field: key if word == "key" else word for field, word in needed.items()}
            answer = await it.post(path, empty_body(request, value) | own)

            shown = answer.get("data", answer)
            assert (shown["rpm_limit"], shown["max_budget"], shown["models"]) == (None, None, [])


async def test_a_team_is_made_changed_blocked_and_shown_with_its_keys(valkey: RedisServer) -> None:
    async with office(valkey) as it:
        fields = {
            "team_alias": "search",
            "models": ["m"],
            "tpm_limit": 10,
            "rpm_limit": 2,
            "max_budget": 25.5,
            "budget_duration": "7d",
            "metadata": {"floor": 3},
            "tags": ["s"],
            "share_across": "key",
            "max_parallel_requests": 3,
        }
        made = await it.post("/team/new", {"team_id": "t", **fields})
        assert {name: made[name] for name in fields} == fields
        key = await it.key(team_id="t")

        changed = await it.post("/team/update", {"team_id": "t", "tpm_limit": None})
        assert changed["data"]["tpm_limit"] is None
        assert changed["data"]["rpm_limit"] == 2
        assert (await it.post("/team/block", {"team_id": "t"}))["blocked"] is True
        await it.refused("/key/info", status=401, key=key["key"])
        assert (await it.post("/team/unblock", {"team_id": "t"}))["blocked"] is False
        assert await it.get("/key/info", key=key["key"])
        info = await it.get("/team/info", team_id="t")
        assert info["team_info"]["team_alias"] == "search"
        assert [one["token"] for one in info["keys"]] == [key["token"]]
        assert [one["team_id"] for one in await it.get("/team/list")] == ["t"]
        assert await it.get("/team/list", team_alias="other") == []


async def test_a_deleted_team_takes_its_keys_along(valkey: RedisServer) -> None:
    async with office(valkey) as it:
        await it.post("/team/new", {"team_id": "t"})
        key = await it.key(team_id="t")
        assert await it.get("/key/info", key=key["key"])

        assert await it.post("/team/delete", {"team_ids": ["t"]}) == {"deleted_teams": ["t"]}

        await it.refused("/key/info", status=401, key=key["key"])
        await it.refused("/team/info?team_id=t", status=404)
        await it.refused("/team/delete", {"team_ids": ["t"]}, status=404)
        await it.refused("/team/update", {"team_id": "t"}, status=404)


async def test_a_user_is_made_changed_listed_and_deleted_with_its_keys(valkey: RedisServer) -> None:
    async with office(valkey) as it:
        made = await it.post(
            "/user/new",
            {"user_email": "u@example.org", "user_role": "internal_user", "rpm_limit": 1},
        )
        user = made["user_id"]
        assert "key" not in made
        key = await it.key(user_id=user)
        changed = await it.post(
            "/user/update", {"user_id": user, "user_alias": "u", "max_budget": 1}
        )
        assert (changed["data"]["user_alias"], changed["data"]["rpm_limit"]) == ("u", 1)
        info = await it.get("/user/info", user_id=user)
        assert (info["user_info"]["user_email"], len(info["keys"])) == ("u@example.org", 1)
        listed = await it.get("/user/list", user_email="EXAMPLE")
        assert (listed["total"], listed["users"][0]["user_id"]) == (1, user)
        assert (await it.get("/user/list", user_ids="a,b"))["users"] == []

        assert await it.post("/user/delete", {"user_ids": [user]}) == {"deleted_users": [user]}

        await it.refused("/key/info", status=401, key=key["key"])
        await it.refused(f"/user/info?user_id={user}", status=404)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/team/new", {"team_id": "t"}, "team_id"),
        ("/team/new", {"rpm_limit": -1}, "rpm_limit"),
        ("/team/new", {"team_member_budget": 5}, "team_member_budget"),
        ("/team/new", {"model_aliases": {"a": "b"}}, "model_aliases"),
        ("/team/new", {"team_alais": "x"}, "team_alais"),
        ("/team/update", {}, "team_id"),
        ("/team/delete", {"team_ids": []}, "team_ids"),
        ("/team/delete", {"team_ids": "t"}, "team_ids"),
        ("/team/block", {}, "team_id"),
        ("/user/new", {"budget_duration": "often"}, "budget_duration"),
        ("/user/new", {"model_max_budget": {"m": {"budget_limit": 1}}}, "model_max_budget"),
        ("/user/update", {"user_id": ""}, "user_id"),
        ("/user/delete", {}, "user_ids"),
        ("/key/block", {}, "key"),
        ("/key/regenerate", {}, "key"),
        ("/key/update", {"key": ""}, "key"),
    ],
    ids=str,
)
async def test_a_bad_body_names_the_field(
    valkey: RedisServer, path: str, body: Any, param: str
) -> None:
    async with office(valkey) as it:
        await it.post("/team/new", {"team_id": "t"})

        assert (await it.refused(path, body))["param"] == param


async def test_what_litellm_would_do_with_a_users_first_key_is_not_asked_for(
    valkey: RedisServer,
) -> None:
    async with office(valkey) as it:
        await it.post("/user/new", {"user_id": "u", "key_alias": "k", "auto_create_key": True})

        assert await _keys(it) == 0


async def _keys(it: Office) -> int:
    count: int = (await it.get("/key/list"))["total_count"]
    return count
