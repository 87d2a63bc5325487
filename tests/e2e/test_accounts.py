"""Keys, teams and users from their making to their end, in every api process at once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Final

import httpx
import pytest

from e2e.asking import asked, error_of, seen
from e2e.keys import MASTER, Office, bearer, books_of, guarded, short_entry
from e2e.models import entry
from e2e.pools import SECRET, Fleet, Pool, serving, short_directory
from support.fake_provider import FakeProvider
from support.processes import wait_until

NEXT_SECRET: Final = "e2e-7f4b19c2d8a35e60"
EFFECT_S: Final = 2.0
"""Within which a change is known everywhere."""
GLANCE_S: Final = 0.3
"""What asking everybody may take on a busy machine."""
INVALID: Final = (401, "invalid_request_error", None, "invalid_api_key")
NOT_ALLOWED: Final = (403, "invalid_request_error", "model", "model_not_allowed")
EMPTY_FIELDS: Final[dict[str, Any]] = {
    "key_alias": None, "duration": None, "models": [], "spend": 0, "max_budget": None,
    "user_id": None, "team_id": None, "organization_id": "", "project_id": None,
    "max_parallel_requests": None, "metadata": {}, "tpm_limit": None, "rpm_limit": None,
    "budget_duration": None, "budget_id": "", "allowed_cache_controls": [], "config": {},
    "permissions": {}, "model_max_budget": {}, "model_rpm_limit": {}, "model_tpm_limit": {},
    "guardrails": [], "prompts": [], "blocked": False, "aliases": {}, "allowed_routes": [],
    "enforced_params": [], "tags": [], "soft_budget": None, "send_invite_email": False,
    "key_type": "default", "auto_rotate": False, "rotation_interval": "", "policies": [],
    "object_permission": {"mcp_servers": [], "vector_stores": []}, "rpm_limit_type": None,
    "tpm_limit_type": "", "router_settings": {}, "access_group_ids": [],
    "allowed_passthrough_routes": None, "allowed_vector_store_indexes": [],
}  # fmt: skip
"""As infrastructure tools write a key of which nothing was said."""
RESTRICTIONS: Final[dict[str, Any]] = {
    "allowed_routes": ["/embeddings"],
    "permissions": {"get_spend_routes": True},
    "enforced_params": ["user"],
    "model_rpm_limit": {"small": 1},
    "model_tpm_limit": {"small": 1},
    "model_max_budget": {"small": 1.0},
    "guardrails": ["no-secrets"],
    "allowed_cache_controls": ["no-cache"],
    "aliases": {"mine": "small"},
    "budget_id": "cheap",
    "organization_id": "acme",
    "object_permission": {"vector_stores": ["v"]},
}
"""What would bound a key elsewhere, and is refused rather than forgotten here."""


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeProvider]:
    with FakeProvider.in_thread(dims=24) as provider:
        yield provider


@pytest.fixture(scope="module")
def config(fake: FakeProvider) -> dict[str, Any]:
    wild = entry("open/*", "openai/*", fake.api_base, "sk-wild", output_dimensions=24)
    models = [short_entry("small", fake), short_entry("search-small", fake), wild]
    return guarded(fake, *models)


@pytest.fixture(scope="module")
def pool(config: dict[str, Any]) -> Iterator[Pool]:
    with serving(config=config, env={"EMBEDPOOL_SECRET": SECRET}) as running:
        yield running


@pytest.fixture(scope="module")
def apis(pool: Pool, config: dict[str, Any]) -> Iterator[list[str]]:
    """The pool's api process, and another one; each is asked by an address of its own."""
    with short_directory() as directory, ExitStack() as stack:
        fleet = stack.enter_context(Fleet(pool.store_url, directory, config=config))
        fleet.wait_until_served(fleet.api())
        yield [pool.url, fleet.url]


@pytest.fixture
def office(apis: list[str], plain_client: httpx.Client) -> Office:
    return Office(apis[0], plain_client)


Ask = Callable[..., httpx.Response]


@pytest.fixture
def ask(office: Office) -> Ask:
    """Ask for an embedding with a key."""

    def asking(key: str, model: str = "small", **more: Any) -> httpx.Response:
        headers = bearer(key) | more.pop("headers", {})
        url = more.pop("url", office.url)
        body = asked(model, "a text", **more)
        return office.client.post(f"{url}/v1/embeddings", json=body, headers=headers)

    return asking


def changes(office: Office) -> dict[str, tuple[str, Callable[[], Any], int]]:
    """Make a key for each kind of change: the key, the change, and its status from then on."""
    team = office.post("/team/new", team_id="blockable")["team_id"]
    office.post("/user/new", user_id="narrow")
    made = {name: office.key(key_alias=name) for name in ("blocked", "deleted", "rotated", "moved")}
    made["narrowed"] = office.key(models=["small"])
    made["unblocked"] = office.key(blocked=True)
    made["throttled"] = office.key()
    made["of a team"] = office.key(team_id=team)
    made["of a user"] = office.key(user_id="narrow")

    def change(name: str, path: str, **fields: Any) -> tuple[str, Callable[[], Any]]:
        return made[name], lambda: office.post(path, **({"key": made[name]} | fields))

    return {
        "blocked": (*change("blocked", "/key/block"), 401),
        "unblocked": (*change("unblocked", "/key/unblock"), 200),
        "narrowed": (*change("narrowed", "/key/update", models=["search-*"]), 403),
        "throttled": (*change("throttled", "/key/update", rpm_limit=0), 400),
        "rotated": (*change("rotated", "/key/regenerate"), 401),
        "deleted": (
            made["deleted"],
            lambda: office.post("/key/delete", key_aliases=["deleted"]),
            401,
        ),
        "of a blocked team": (
            made["of a team"],
            lambda: office.post("/team/block", team_id=team),
            401,
        ),
        "of a narrowed user": (
            made["of a user"],
            lambda: office.post("/user/update", user_id="narrow", models=["search-*"]),
            403,
        ),
    }


def test_every_change_is_in_effect_in_every_process_within_two_seconds(
    office: Office, apis: list[str], ask: Ask
) -> None:
    made = changes(office)

    def statuses(key: str) -> list[int]:
        return [ask(key, url=url).status_code for url in apis]

    for name, (key, _, _) in made.items():
        assert statuses(key) == [401 if name == "unblocked" else 200] * 2, name
    for _, change, _ in made.values():
        change()
    changed_at = time.monotonic()
    waiting = dict(made)

    while waiting:
        late = time.monotonic() - changed_at > EFFECT_S + GLANCE_S
        for name, (key, _, status) in list(waiting.items()):
            found = statuses(key)
            assert found == [status] * 2 or not late, (name, found)
            if found == [status] * 2:
                del waiting[name]


def test_a_key_from_its_making_to_its_end(office: Office, apis: list[str], ask: Ask) -> None:
    made = office.made(key_alias="life", models=["small"], metadata={"project": "x"}, rpm_limit=50)
    key, token_id = made["key"], made["token_id"]
    assert ask(key).status_code == 200

    assert {office.of_key(name)["token_id"] for name in (key, token_id, made["token"])} == {
        token_id
    }
    assert office.get("/key/info", key=key)["info"]["key_alias"] == "life"
    page = office.get("/key/list", key_alias="life", return_full_object=True)
    assert [row["token_id"] for row in page["keys"]] == [token_id]

    updated = office.post("/key/update", key=key, rpm_limit=60)
    assert (updated["rpm_limit"], updated["metadata"]) == (60, {"project": "x"})

    rotated = office.post("/key/regenerate", key=key)
    assert rotated["token_id"] == token_id
    for url in apis:  # the new one is good at once, and nobody has heard of it before
        assert ask(rotated["key"], url=url).status_code == 200
    wait_until(lambda: ask(key).status_code == 401, patience_s=EFFECT_S, what="the old one is dead")

    assert office.post("/key/delete", keys=[rotated["key"]]) == {"deleted_keys": [token_id]}
    assert office.ask("GET", "/key/info", params={"key": token_id}).status_code == 404


def test_a_key_that_has_expired_is_not_let_in(office: Office, ask: Ask) -> None:
    key = office.key(duration="1s")

    assert ask(key).status_code == 200
    wait_until(lambda: ask(key).status_code == 401, patience_s=2, what="it has expired")
    refusal = ask(key)
    assert seen(refusal) == INVALID
    assert error_of(refusal)["message"] == "Invalid API key: it has expired"


def test_a_body_full_of_empty_fields_makes_a_plain_key(office: Office, ask: Ask) -> None:
    made = office.made(**EMPTY_FIELDS)

    assert ask(made["key"]).status_code == 200
    assert [made[name] for name in ("max_budget", "rpm_limit", "expires", "models")] == [
        None, None, None, [],
    ]  # fmt: skip


@pytest.mark.parametrize("name", RESTRICTIONS)
def test_a_restriction_that_cannot_be_kept_is_refused_by_its_name(
    office: Office, name: str
) -> None:
    keys = office.get("/key/list")["total_count"]

    refusal = office.ask("POST", "/key/generate", json={name: RESTRICTIONS[name]})

    assert seen(refusal) == (400, "invalid_request_error", name, None)
    assert name in error_of(refusal)["message"]
    assert office.get("/key/list")["total_count"] == keys


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"rpm_limit": -1}, "rpm_limit"),
        ({"max_budget": "much"}, "max_budget"),
        ({"duration": "soon"}, "duration"),
        ({"budget_duration": "a while", "max_budget": 1}, "budget_duration"),
        ({"rmp_limit": 1}, "rmp_limit"),
        ({"metadata": []}, "metadata"),
        ({"models": "small"}, "models"),
        ({"team_id": "nobody-has-heard-of-it"}, "team_id"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_name(
    office: Office, fields: dict[str, Any], param: str
) -> None:
    refusal = office.ask("POST", "/key/generate", json=fields)

    assert (refusal.status_code, error_of(refusal)["param"]) == (400, param), refusal.text
    if param == "rmp_limit":
        assert "rpm_limit" in error_of(refusal)["message"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"key"', b"\xff"])
def test_what_is_no_object_is_refused(office: Office, body: bytes) -> None:
    refusal = office.ask("POST", "/key/update", content=body)

    assert refusal.status_code == 400
    assert error_of(refusal)["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("models", "may", "may_not"),
    [
        pytest.param(["small"], ["small"], ["search-small", "open/x"], id="one name"),
        pytest.param(["search-*"], ["search-small"], ["small"], id="a pattern"),
        pytest.param(["open/*"], ["open/some-model"], ["small"], id="a wildcard of the list"),
        pytest.param(["open/a"], ["open/a"], ["open/b", "small"], id="one of a wildcard's"),
        pytest.param([], ["small", "search-small", "open/x"], [], id="no list"),
    ],
)
def test_a_key_may_use_the_models_on_its_list(
    office: Office, ask: Ask, models: list[str], may: list[str], may_not: list[str]
) -> None:
    key = office.key(models=models)

    assert [ask(key, model).status_code for model in may] == [200] * len(may)
    assert [seen(ask(key, model)) for model in may_not] == [NOT_ALLOWED] * len(may_not)


def test_a_key_sees_the_models_it_may_use_and_no_others(office: Office) -> None:
    key = office.key(models=["search-*"])

    listed = {model["id"] for model in office.get("/v1/models", key=key)["data"]}

    assert listed == {"search-small"}
    assert office.ask("GET", "/v1/models/search-small", key=key).status_code == 200
    assert office.ask("GET", "/v1/models/small", key=key).status_code == 404
    everything = {model["id"] for model in office.get("/v1/models")["data"]}
    assert everything >= {"small", "search-small", "open/text-embedding-3-small"}


def test_a_teams_list_narrows_its_keys_lists(office: Office, ask: Ask) -> None:
    office.post("/team/new", team_id="searchers", models=["search-*"])
    key = office.key(team_id="searchers", models=["small", "search-small"])

    assert ask(key, "search-small").status_code == 200
    assert seen(ask(key, "small")) == NOT_ALLOWED


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/key/generate"), ("POST", "/key/update"), ("POST", "/key/delete"),
        ("GET", "/key/list"), ("POST", "/key/block"), ("POST", "/key/regenerate"),
        ("POST", "/team/new"), ("GET", "/team/list"), ("POST", "/user/new"),
        ("GET", "/spend/keys"), ("GET", "/spend/tags"), ("GET", "/global/spend"),
    ],
)  # fmt: skip
def test_only_the_master_key_administers(office: Office, method: str, path: str) -> None:
    key = office.key()
    body: dict[str, Any] = {"json": {}} if method == "POST" else {}

    assert office.ask(method, path, key=key, **body).status_code == 403
    assert office.ask(method, path, key="sk-ep-nobody", **body).status_code == 401


def test_what_headers_and_bodies_say_is_in_the_usage_records(
    office: Office, pool: Pool, ask: Ask
) -> None:
    made = office.made(metadata={"of": "the key"}, tags=["key-tag"], user_id="ada")
    told = {
        "x-litellm-user-id": "user-123",
        "x-litellm-metadata": json.dumps({"trace": "abc", "of": "a header"}),
        "x-litellm-spend-logs-metadata": json.dumps({"chunk": 7}),
        "x-litellm-tags": "red, blue",
    }

    said = [
        ask(made["key"], headers=told | {"x-request-id": "req-by-header"}),
        ask(
            made["key"],
            headers=told | {"x-request-id": "req-by-body"},
            user="user-of-the-body",
            metadata={"of": "the body"},
        ),
    ]

    assert [answer.status_code for answer in said] == [200, 200]
    with books_of(pool) as books:
        books.wait_until_settled()
    by_header, by_body = office.log(api_key=made["key"])
    assert (by_header["request_id"], by_body["request_id"]) == ("req-by-header", "req-by-body")
    assert (by_header["end_user"], by_body["end_user"]) == ("user-123", "user-of-the-body")
    assert by_header["metadata"] == {"of": "a header", "trace": "abc", "chunk": 7}
    assert by_body["metadata"] == {"of": "the body", "trace": "abc", "chunk": 7}
    assert set(by_header["request_tags"]) == {"key-tag", "red", "blue"}
    assert (by_header["user"], by_header["status"], by_header["model"]) == (
        "ada", "success", "small",
    )  # fmt: skip
    assert by_header["total_tokens"] == said[0].json()["usage"]["total_tokens"]
    page = office.get("/spend/logs", api_key=made["key"])
    assert page == [by_body, by_header]
    assert office.get("/spend/logs", request_id="req-by-body") == [by_body]
    assert office.get("/spend/logs", key=made["key"]) == page
    assert office.get("/spend/logs", end_user="user-123") == [by_header]


def test_a_key_sees_its_own_spend_and_nobody_elses(office: Office, ask: Ask) -> None:
    mine, others = office.key(), office.key()
    ask(others)

    assert office.get("/spend/logs", key=mine) == []
    assert office.ask("GET", "/key/info", key=mine).status_code == 200
    assert office.ask("GET", "/key/info", key=mine, params={"key": others}).status_code == 403
    assert office.ask("GET", "/spend/logs", key=mine, params={"api_key": others}).status_code == 403


def test_keys_outlive_the_secret_they_were_made_under(
    office: Office, pool: Pool, config: dict[str, Any], ask: Ask
) -> None:
    key = office.key()
    rotated = {"EMBEDPOOL_SECRET": NEXT_SECRET, "EMBEDPOOL_AUTH_OLD_SECRETS": SECRET}

    with short_directory() as directory, Fleet(pool.store_url, directory, config=config) as fleet:
        fleet.wait_until_served(fleet.api(env=rotated))
        fresh = Office(fleet.url, office.client).key()

        assert ask(key, url=fleet.url).status_code == 200
        assert ask(fresh, url=fleet.url).status_code == 200
        assert seen(ask(fresh)) == INVALID


def test_no_key_is_in_any_log_however_it_was_sent(office: Office, pool: Pool, ask: Ask) -> None:
    key = office.key()
    ask(key)
    office.of_key(key)
    office.ask("POST", f"/key/{key}/regenerate")
    office.ask("GET", "/spend/logs", params={"api_key": key})

    assert key.removeprefix("sk-ep-") not in pool.program.output
    assert MASTER not in pool.program.output


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"authorization": "Bearer " + "k" * 10_240}, id="ten kilobytes"),
        pytest.param({"authorization": "Bearer sk-ep-a\tb"}, id="a tab inside"),
        pytest.param({"authorization": "Bearer sk-ep-a, Bearer sk-ep-b"}, id="two of them"),
    ],
)
def test_what_can_be_no_key_is_refused(office: Office, headers: dict[str, str]) -> None:
    url = f"{office.url}/v1/embeddings"

    refusal = office.client.post(url, json=asked("small", "x"), headers=headers)

    assert seen(refusal) == INVALID
