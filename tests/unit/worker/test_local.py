from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import numpy as np
import pytest

from embedpool_shared.errors import RefusedInput
from embedpool_worker.providers.local import CHUNK_TOKENS, LocalModel
from embedpool_worker.providers.port import ProviderAnswer, ProviderCall

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from embedpool_shared.jobs import Input

TEXTS = ["a cat sat on the mat", "dogs and cats", "quarterly revenue rose", "é 😀 ￿", " "]


class Running:
    """A model and the loop it is asked from."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self.runner = runner
        self.model = LocalModel()

    def embed(self, inputs: Sequence[Input], dimensions: int | None = None) -> ProviderAnswer:
        call = ProviderCall(model="wordllama", inputs=inputs, dimensions=dimensions)
        return self.runner.run(self.model.embed(call))


@pytest.fixture(scope="module")
def local() -> Iterator[Running]:
    pytest.importorskip("wordllama")
    with asyncio.Runner() as runner:
        running = Running(runner)
        runner.run(running.model.warm())
        yield running
        runner.run(running.model.close())


def floats(vector: bytes) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.frombuffer(vector, dtype="<f4")


@pytest.mark.parametrize("dims", [None, 256, 128, 64])
def test_vectors_are_unit_vectors_of_the_size_asked_for(local: Running, dims: int | None) -> None:
    answer = local.embed(TEXTS, dims)

    assert answer.dims == (dims or 256)
    for vector in answer.vectors:
        assert len(floats(vector)) == answer.dims
        assert np.linalg.norm(floats(vector)) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("dims", [256, 64])
def test_a_texts_vector_is_the_same_alone_and_in_a_batch(local: Running, dims: int) -> None:
    together = local.embed([*TEXTS, "long " * 500], dims)

    alone = [local.embed([text], dims).vectors[0] for text in TEXTS]

    assert list(together.vectors)[: len(TEXTS)] == alone


def test_a_smaller_size_is_the_beginning_normalised_again(local: Running) -> None:
    [full] = local.embed(TEXTS[:1]).vectors
    [small] = local.embed(TEXTS[:1], 64).vectors

    start = floats(full)[:64]
    np.testing.assert_allclose(floats(small), start / np.linalg.norm(start), atol=1e-6)


def test_vectors_are_those_of_wordllama_itself(local: Running) -> None:
    import pathlib  # noqa: PLC0415

    import wordllama  # noqa: PLC0415

    folder = pathlib.Path(wordllama.__file__).parent
    theirs = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)

    ours = np.stack([floats(vector) for vector in local.embed(TEXTS).vectors])

    np.testing.assert_allclose(ours, theirs.embed(TEXTS, norm=True), atol=1e-6)


def test_near_texts_are_nearer_than_far_ones(local: Running) -> None:
    cat, dog, money = map(floats, local.embed(["cats", "dogs", "quarterly revenue"]).vectors)

    assert float(cat @ dog) > float(cat @ money)


def test_tokens_are_counted_per_text(local: Running) -> None:
    answer = local.embed(["hello world", "hello world hello world"])

    assert answer.item_tokens is not None
    assert answer.item_tokens[1] == 2 * answer.item_tokens[0]
    assert answer.total_tokens == sum(answer.item_tokens)


def test_a_very_long_text_is_fine(local: Running) -> None:
    answer = local.embed(["word " * (2 * CHUNK_TOKENS)])

    assert answer.total_tokens is not None
    assert answer.total_tokens > CHUNK_TOKENS
    assert np.isfinite(floats(answer.vectors[0])).all()


def test_another_size_is_refused_by_name(local: Running) -> None:
    with pytest.raises(RefusedInput) as caught:
        local.embed(["x"], 100)

    assert caught.value.param == "dimensions"


def test_token_arrays_are_refused(local: Running) -> None:
    with pytest.raises(RefusedInput):
        local.embed([[1, 2, 3]])


def test_the_loop_goes_on_while_the_model_works(local: Running) -> None:
    async def ticks_during_a_long_text() -> int:
        call = ProviderCall(model="wordllama", inputs=["word " * 50_000])
        work = asyncio.create_task(local.model.embed(call))
        ticks = 0
        while not work.done():
            await asyncio.sleep(0)
            ticks += 1
        return ticks

    assert local.runner.run(ticks_during_a_long_text()) > 3


def test_loading_it_leaves_the_root_logger_alone(local: Running) -> None:
    assert local.embed(["x"]).dims == 256
    assert logging.getLogger().level == logging.WARNING
