"""The snapshot as JSON: what is busy comes first, and no secret is in it."""

from __future__ import annotations

from typing import Any

import orjson

from embedpool_api.status.endings_seen import Logged
from embedpool_api.status.lanes_seen import LaneSeen
from embedpool_api.status.snapshot import Snapshot, keys_shown
from embedpool_shared.catalog import Catalog, ModelCard
from embedpool_shared.provider_keys import KeyCondition, KeyState
from unit.api.usage_records import record

CATALOG = Catalog(
    models={"m": ModelCard(name="m", providers=("openai",), max_items_per_call=4)},
    wildcards=(ModelCard(name="w/*", providers=("openai",), is_wildcard=True),),
)


def lane(name: str, *, items: int = 0, served: int = 0, **more: Any) -> LaneSeen:
    return LaneSeen(
        name=name,
        items=items,
        bytes=0,
        tokens=0,
        packs=0,
        packs_leased=0,
        oldest_s=0.0,
        served_per_s=served,
        dead_letters=0,
        **more,
    )


def shown(
    *lanes: LaneSeen,
    catalog: Catalog | None = CATALOG,
    alive: tuple[str, ...] = (),
    log: tuple[Logged, ...] = (),
    keys: tuple[KeyState, ...] = (),
) -> dict[str, Any]:
    snapshot = Snapshot(at_ms=5, alive=alive, lanes=lanes, keys=keys, log=log)
    read: dict[str, Any] = orjson.loads(orjson.dumps(snapshot.shown(catalog)))
    return read


def test_the_busiest_lane_comes_first() -> None:
    lanes = shown(lane("b"), lane("a"), lane("busy", items=3), lane("quick", served=9))["lanes"]

    assert [it["name"] for it in lanes] == ["busy", "quick", "a", "b"]


def test_a_batch_is_measured_by_what_fits_into_one() -> None:
    log = (Logged("1-0", "m", 7, [record("a"), record("b"), record("c")]),)

    (seen,) = shown(lane("m"), log=log)["lanes"]

    assert (seen["items_per_batch"], seen["requests_per_batch"], seen["batches"]) == (3.0, 3.0, 1)
    assert seen["fill_ratio"] == 0.75


def test_without_a_batch_or_its_bound_there_is_no_ratio() -> None:
    log = (Logged("1-0", "unbounded", 7, [record("a")]),)

    quiet, unbounded = shown(lane("m"), lane("unbounded"), log=log)["lanes"]

    assert (quiet["items_per_batch"], quiet["fill_ratio"]) == (None, None)
    assert (unbounded["items_per_batch"], unbounded["fill_ratio"]) == (1.0, None)


def test_every_process_is_told_by_its_role() -> None:
    alive = ("worker:host:w2", "api:a1", "worker:host:w1", "worker:alone")

    seen = shown(lane("m", holders=(("w1", 4), ("alone", 2), ("gone", 1))), alive=alive)

    assert seen["apis"] == ["a1"]
    assert seen["workers"] == [
        {"id": "alone", "packs": 2},
        {"id": "host:w1", "packs": 4},
        {"id": "host:w2", "packs": 0},
    ]


def test_before_any_catalogue_there_are_no_models() -> None:
    assert shown(catalog=None)["models"] == 0
    assert shown()["models"] == 2


def test_a_key_is_shown_with_what_is_left_of_its_limits() -> None:
    key = KeyState(
        id="k", shown="…abcd", condition=KeyCondition.COOLING, rests_for_s=1.234,
        reason="throttled", rpm=60, used_requests=45, slots=8, in_flight=2, workers=1,
    )  # fmt: skip

    (seen,) = shown(keys=(key,))["keys"]

    assert seen["condition"] == "cooling"
    assert (seen["reason"], seen["rests_for_s"]) == ("throttled", 1.2)
    assert (seen["rpm"], seen["remaining_requests"]) == (60, 15)
    assert (seen["tpm"], seen["remaining_tokens"]) == (None, None)


def test_a_key_nobody_used_is_there_all_the_same() -> None:
    (seen,) = keys_shown([KeyState(id="k")])

    assert (seen["id"], seen["provider"], seen["condition"]) == ("k", None, "ready")
