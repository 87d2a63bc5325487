"""Nothing that would bind somebody is dropped in silence."""

from __future__ import annotations

from typing import Any

import pytest

from embedpool_api.accounts.foreign_fields import HARMLESS, RESTRICTIONS, refuse_foreign
from embedpool_api.routes.key_bodies import GenerateBody, RegenerateBody, UpdateBody
from embedpool_api.routes.teams import IDLE as IDLE_OF_TEAM
from embedpool_api.routes.teams import NewTeamBody, TeamUpdateBody
from embedpool_api.routes.users import IDLE as IDLE_OF_USER
from embedpool_api.routes.users import NewUserBody, UserUpdateBody
from embedpool_shared.errors import BadRequest

OURS = {"rpm_limit", "tpm_limit", "models"}
BODIES: dict[str, tuple[type[Any], frozenset[str]]] = {
    "GenerateKeyRequest": (GenerateBody, frozenset()),
    "UpdateKeyRequest": (UpdateBody, frozenset()),
    "RegenerateKeyRequest": (RegenerateBody, frozenset()),
    "NewTeamRequest": (NewTeamBody, IDLE_OF_TEAM),
    "UpdateTeamRequest": (TeamUpdateBody, IDLE_OF_TEAM),
    "NewUserRequest": (NewUserBody, IDLE_OF_USER),
    "UpdateUserRequest": (UserUpdateBody, IDLE_OF_USER),
}


@pytest.mark.parametrize("name", BODIES)
def test_every_field_of_litellms_is_ours_or_harmless_or_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    theirs = getattr(pytest.importorskip("litellm.proxy._types"), name).model_fields.keys()
    body, idle = BODIES[name]

    assert theirs <= {*body.model_fields, *idle, *HARMLESS, *RESTRICTIONS}
    assert not body.model_fields.keys() & (HARMLESS | RESTRICTIONS)


def test_no_field_is_harmless_and_a_restriction() -> None:
    assert not HARMLESS & RESTRICTIONS


@pytest.mark.parametrize("name", sorted(RESTRICTIONS))
@pytest.mark.parametrize("value", ["x", ["x"], {"x": 1}, 1, 0.5, True], ids=str)
def test_a_restriction_is_refused_by_its_name(name: str, value: Any) -> None:
    with pytest.raises(BadRequest, match=f"`{name}`") as refused:
        refuse_foreign({name: value}, OURS)

    assert refused.value.param == name


@pytest.mark.parametrize("name", ["allowed_routes", "rmp_limit", "something_of_tomorrow"])
@pytest.mark.parametrize("value", [None, "", [], {}, False, 0, 0.0, {"x": None, "y": []}], ids=str)
def test_an_empty_field_asks_for_nothing(name: str, value: Any) -> None:
    refuse_foreign({name: value}, OURS)


def test_what_is_harmless_or_idle_or_holds_anyway_is_ignored() -> None:
    refuse_foreign({"send_invite_email": True, "user_role": "internal_user"}, OURS)
    refuse_foreign({"key_type": "default"}, OURS)
    refuse_foreign({"key_alias": "k"}, OURS, idle={"key_alias"})


@pytest.mark.parametrize(
    ("name", "hint"),
    [("rmp_limit", "did you mean `rpm_limit`?"), ("modles", "`models`"), ("zzz", "tpm_limit")],
)
def test_an_unknown_field_is_refused_with_the_nearest_one(name: str, hint: str) -> None:
    with pytest.raises(BadRequest) as refused:
        refuse_foreign({name: 5}, OURS)

    assert hint in refused.value.message


def test_a_name_of_any_length_makes_no_long_message() -> None:
    with pytest.raises(BadRequest) as refused:
        refuse_foreign({"x" * 100_000: 5}, OURS)

    assert len(refused.value.message) < 300
