"""Whatever a provider answers, each input gets its own finite vector, or nobody gets any."""

from __future__ import annotations

import base64
import json
import struct
from types import SimpleNamespace
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedpool_shared.errors import WrongAnswer
from embedpool_worker.providers import litellm_answer, openai_answer
from embedpool_worker.providers.answers import count_of, name_of
from embedpool_worker.providers.openai_answer import ErrorInAnswer
from embedpool_worker.providers.port import ProviderAnswer, ProviderCall

DIMS: Final = 3
CALL: Final = ProviderCall(model="m", inputs=["a", "b", "c"])
VECTORS: Final = [[0.5, -1.0, float(n)] for n in range(3)]
BYTES: Final = [struct.pack("<3f", *vector) for vector in VECTORS]

Entry = dict[str, Any]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["data", "embedding", "index", "error", "usage", "x"]), inner
        )
    ),
    max_leaves=12,
)
numbers = st.floats(width=32) | st.integers() | st.none() | st.booleans() | st.text(max_size=3)
embeddings = (
    st.sampled_from(VECTORS)
    | st.sampled_from([base64.b64encode(one).decode() for one in BYTES])
    | st.lists(numbers, max_size=4)
    | st.binary(max_size=20).map(lambda raw: base64.b64encode(raw).decode())
    | st.text(max_size=8)
    | json_values
)
indices = st.sampled_from([0, 1, 2]) | st.none() | st.integers() | st.booleans() | st.text()
entries = st.fixed_dictionaries({"embedding": embeddings}, optional={"index": indices})


def by_wire(body: dict[str, Any], *, dims: int | None = DIMS) -> ProviderAnswer:
    return openai_answer.answer_from(json.dumps(body).encode(), CALL, dims=dims)


def by_litellm(body: dict[str, Any], *, dims: int | None = DIMS) -> ProviderAnswer:
    return litellm_answer.answer_from(SimpleNamespace(**body), CALL, dims=dims)


both = pytest.mark.parametrize("read", [by_wire, by_litellm], ids=["wire", "litellm"])


def as_numbers(index: int) -> Entry:
    return {"index": index, "embedding": VECTORS[index]}


def as_base64(index: int) -> Entry:
    return {"index": index, "embedding": base64.b64encode(BYTES[index]).decode()}


@both
@given(order=st.permutations(range(3)), in_base64=st.booleans())
def test_any_order_with_indices_is_put_right(read: Any, order: list[int], in_base64: bool) -> None:
    write = as_base64 if in_base64 else as_numbers

    assert list(read({"data": [write(index) for index in order]}).vectors) == BYTES


@both
@given(data=st.lists(entries, max_size=5))
def test_an_answer_is_whole_or_wrong(read: Any, data: list[Entry]) -> None:
    try:
        answer = read({"data": data})
    except (WrongAnswer, ErrorInAnswer):
        return

    assert len(answer.vectors) == len(data) == 3
    said = [one.get("index") for one in data]
    places = [0, 1, 2] if said == [None] * 3 else said
    assert set(places) == {0, 1, 2}
    for place, one in zip(places, data, strict=True):
        given_vector = one["embedding"]
        wanted = (
            base64.b64decode(given_vector)
            if isinstance(given_vector, str)
            else struct.pack("<3f", *given_vector)
        )
        assert answer.vectors[place] == wanted


@given(body=json_values | st.dictionaries(st.sampled_from(["data", "error", "usage"]), json_values))
def test_any_json_is_an_answer_or_a_wrong_one(body: Any) -> None:
    try:
        answer = by_wire(body)
    except (WrongAnswer, ErrorInAnswer):
        return

    assert len(answer.vectors) == 3


@given(cut=st.integers(0, 120), in_base64=st.booleans())
def test_half_an_answer_is_none(cut: int, in_base64: bool) -> None:
    write = as_base64 if in_base64 else as_numbers
    whole = json.dumps({"data": [write(index) for index in range(3)]}).encode()

    with pytest.raises(WrongAnswer):
        openai_answer.answer_from(whole[: min(cut, len(whole) - 1)], CALL, dims=DIMS)


@both
@pytest.mark.parametrize(
    "spoilt",
    [
        [0.5, -1.0],
        [0.5, -1.0, 2.0, 3.0],
        [0.5, -1.0, "2"],
        [0.5, -1.0, None],
        [0.5, -1.0, 1e39],
        [0.5, -1.0, 10**400],
        [[0.5, -1.0, 2.0]],
        {"float": [0.5, -1.0, 2.0]},
        base64.b64encode(struct.pack("<3e", 0.5, -1.0, 2.0)).decode(),
        base64.b64encode(struct.pack("<3d", 0.5, -1.0, 2.0)).decode(),
        base64.b64encode(bytes([1, 2, 3])).decode(),
        base64.b64encode(struct.pack("<3f", 0.5, -1.0, float("nan"))).decode(),
        base64.b64encode(BYTES[2]).decode()[:-1],
        " " + base64.b64encode(BYTES[2]).decode(),
        "",
        None,
    ],
    ids=repr,
)
def test_one_spoilt_vector_spoils_the_answer(read: Any, spoilt: Any) -> None:
    data = [as_numbers(0), as_base64(1), {"index": 2, "embedding": spoilt}]

    with pytest.raises(WrongAnswer):
        read({"data": data})


@both
@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"total_tokens": 7}, 7),
        ({"total_tokens": 0}, 0),
        ({"total_tokens": -1}, None),
        ({"total_tokens": 1.5}, None),
        ({"total_tokens": "7"}, None),
        ({"total_tokens": True}, None),
        ({"total_tokens": 10**30}, None),
        (None, None),
        ([], None),
    ],
)
def test_a_strange_count_costs_nobody_the_vectors(read: Any, usage: Any, tokens: Any) -> None:
    said = SimpleNamespace(**usage) if read is by_litellm and isinstance(usage, dict) else usage

    answer = read({"data": [as_numbers(n) for n in range(3)], "usage": said})

    assert list(answer.vectors) == BYTES
    assert answer.total_tokens == tokens


@both
@pytest.mark.parametrize("said", [None, 5, "", "x" * 300, "a\nb", ["m"]])
def test_a_strange_name_is_not_passed_on(read: Any, said: Any) -> None:
    assert read({"data": [as_numbers(n) for n in range(3)], "model": said}).model == "m"


@given(st.integers(0, 2**52))
def test_a_count_is_a_count(count: int) -> None:
    assert count_of(count) == count
    assert name_of("text-embedding-3-small") == "text-embedding-3-small"
