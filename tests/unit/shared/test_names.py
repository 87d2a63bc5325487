"""Every name is under the prefix, belongs to one thing, and shares its lane's slot."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from embedpool_shared.jobs import LaneClass
from embedpool_shared.names import LaneNames, Names

ids = st.text(alphabet="abcdef0123456789", min_size=1, max_size=8)
models = st.text(st.characters(exclude_characters="{}", codec="utf-8"), min_size=1, max_size=20)


def names_of(lane: LaneNames, pack_id: str = "p", api_id: str = "a") -> list[str]:
    own = [lane.depth, lane.ledger, lane.dead]
    streams = [lane.stream(lane_class) for lane_class in LaneClass]
    return [*streams, *own, lane.pk(pack_id), lane.part(pack_id), lane.inbox(api_id)]


@given(models, ids, ids)
def test_all_names_of_a_lane_share_one_slot(model: str, pack_id: str, api_id: str) -> None:
    listed = names_of(Names().lane(model), pack_id, api_id)

    assert len({key_slot(name.encode()) for name in listed}) == 1


@given(st.lists(models, min_size=2, max_size=4, unique=True), ids, ids)
def test_no_two_things_share_a_name(models: list[str], pack_id: str, other_id: str) -> None:
    ids = {pack_id, other_id}
    lanes = [Names().lane(model) for model in models]

    per_lane = [set(chain(*(names_of(lane, id_, id_) for id_ in ids))) for lane in lanes]

    assert all(len(lane) == 5 + 3 * len(ids) for lane in per_lane)
    assert len(set(chain(*per_lane))) == sum(map(len, per_lane))


@given(st.text(min_size=1, max_size=6))
def test_everything_is_under_the_prefix(prefix: str) -> None:
    names = Names(prefix)
    own = [names.lanes, names.known_lanes, names.catalog, names.alive, names.maintenance]
    own += [names.caps, names.vectors]

    assert len(set(own)) == len(own)
    assert all(name.startswith(f"{prefix}:") for name in [*own, *names_of(names.lane("m"))])


def test_the_lists_of_lanes_share_one_slot() -> None:
    names = Names()

    assert key_slot(names.lanes.encode()) == key_slot(names.known_lanes.encode())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (Names().lane("m").stream(LaneClass.INTERACTIVE), "ep:{lane:m}:i"),
        (Names().lane("m").stream(LaneClass.BULK), "ep:{lane:m}:b"),
        (Names().lane("m").depth, "ep:{lane:m}:depth"),
        (Names().lane("m").pk("7"), "ep:{lane:m}:pk:7"),
        (Names().lane("m").part("7"), "ep:{lane:m}:part:7"),
        (Names().lane("m").inbox("7"), "ep:{lane:m}:in:7"),
        (Names().lane("m").ledger, "ep:{lane:m}:ledger"),
        (Names().lane("m").dead, "ep:{lane:m}:dead"),
        (Names().catalog, "ep:catalog"),
        (Names().caps, "ep:caps"),
        (Names().vectors, "ep:vectors"),
    ],
)
def test_operators_find_the_documented_names(name: str, expected: str) -> None:
    assert name == expected
