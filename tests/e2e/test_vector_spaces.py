"""One name is one vector space: what is proven different never starts, the odd never answers."""

from __future__ import annotations

from typing import Any, Final

import pytest

from e2e.asking import all_at_once, asked, right
from e2e.models import entry
from e2e.pools import serving, short_directory, written
from support.fake_provider import FakeProvider
from support.processes import embedpool

pytestmark = pytest.mark.long

USUAL, ODD = 24, 48
CROWD: Final = 32
REFUSED: Final = 2


def somebodys(fake: FakeProvider, model: str, **info: Any) -> dict[str, Any]:
    """Write an entry of the one group of these tests."""
    return entry("group", f"hosted_vllm/{model}", fake.api_base, **info)


@pytest.mark.parametrize(
    ("first", "other", "words"),
    [
        ({"output_dimensions": 384}, {"output_dimensions": 768}, "384 dimensions"),
        ({"base_model": "bge-m3"}, {"base_model": "e5-large"}, "cannot be compared"),
    ],
    ids=["lengths", "base models"],
)
def test_a_group_that_is_proven_to_be_two_spaces_does_not_start(
    first: dict[str, Any], other: dict[str, Any], words: str
) -> None:
    with FakeProvider.in_thread() as fake, short_directory() as directory:
        listed = [somebodys(fake, "one", **first), somebodys(fake, "other", **other)]
        config = str(written({"model_list": listed}, directory))
        arguments = ["serve", "--port", "0", "--config", config, "--data-dir", str(directory)]

        with embedpool(*arguments, log=directory / "log") as program:
            code = program.wait()

            assert code == REFUSED
            assert words in program.output
            assert "give them different model_names" in program.output
            assert "Traceback" not in program.output
        assert fake.totals.calls == 0


async def test_where_nobody_knows_vectors_of_another_length_are_never_delivered() -> None:
    with FakeProvider.in_thread(dims=USUAL) as usual, FakeProvider.in_thread(dims=ODD) as odd:
        listed = [somebodys(usual, "one"), somebodys(odd, "other")]
        fallbacks = [{"group": ["elsewhere"]}]
        config = {"model_list": listed, "litellm_settings": {"fallbacks": fallbacks}}
        with serving(config=config) as pool:
            first = await all_at_once(pool.url, [asked("group", "first")])
            texts = [f"text {number}" for number in range(CROWD)]
            answers = await all_at_once(pool.url, [asked("group", text) for text in texts])
            said = pool.program.output

    assert [answer.vectors for answer in first] == [right(["first"], dims=USUAL, upstream="one")]
    assert [answer.vectors for answer in answers] == [
        right([text], dims=USUAL, upstream="one") for text in texts
    ]
    assert odd.totals.calls > 0, "it was asked, and its answers were thrown away"
    assert "nobody knows whether" in said
    assert "another model's vectors cannot stand in" in said
