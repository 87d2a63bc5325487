"""The zero-setup model: wordllama, a small real embedding model, in a thread of its own.

Invariants
- The event loop never waits for the model: loading and embedding happen in one dedicated thread.
- A text's vector is the same bytes alone and in any batch: every text is pooled by itself.
- Nothing is downloaded: the weights are those that ship in the wordllama wheel.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from embedpool_shared.errors import ProviderUnavailable, RefusedInput
from embedpool_worker.providers.port import ProviderAnswer, ProviderCall

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NATIVE_DIMENSIONS: Final = 256
DIMENSIONS: Final = (256, 128, 64)
"""The model is a matryoshka: the first 128 or 64 numbers are a smaller model's vector."""
MODEL: Final = "wordllama"
CHUNK_TOKENS: Final = 8_192
"""Rows of the token table that one text occupies at a time: a text of 16 MiB must not take 4 GB."""
NOT_INSTALLED: Final = "the local model is not installed: pip install 'embedpool[local]'"

_Floats = NDArray[np.float32]


class LocalModel:
    """wordllama as a provider; loaded by `warm` or by the first call."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="local-model")
        self._model: _WordLlama | None = None

    async def warm(self) -> None:
        """Load the model now; raises `ProviderUnavailable` with the fix if it is not installed."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._loaded)

    async def embed(self, call: ProviderCall) -> ProviderAnswer:
        """Answer every input of `call` with unit vectors and exact token counts."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._embed, call)

    async def close(self) -> None:
        """Let the thread end after the text it is at."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _loaded(self) -> _WordLlama:
        if self._model is None:
            self._model = _WordLlama()
        return self._model

    def _embed(self, call: ProviderCall) -> ProviderAnswer:
        dims = NATIVE_DIMENSIONS if call.dimensions is None else call.dimensions
        if dims not in DIMENSIONS:
            raise RefusedInput(
                f"wordllama has 256, 128 or 64 dimensions, not {dims}", param="dimensions"
            )
        vectors, tokens = self._loaded().vectors(_texts(call.inputs), dims)
        return ProviderAnswer(
            vectors=vectors,
            dims=dims,
            model=call.model or MODEL,
            total_tokens=sum(tokens),
            item_tokens=tokens,
        )


class _WordLlama:
    """The tokenizer and the token table, used one text at a time.

    `WordLlamaInference.embed` pads a batch to its longest text: that costs items x longest tokens
    of memory, throws the token counts away, and clips ids silently. Pooling here reads the same
    table and gives the same vectors.
    """

    def __init__(self) -> None:
        with _root_logger_kept():
            try:
                import wordllama  # noqa: PLC0415 - an extra, and half a second of import

                model: Any = wordllama.WordLlama.load(
                    cache_dir=Path(wordllama.__file__).parent,
                    dim=NATIVE_DIMENSIONS,
                    disable_download=True,
                )
            except (ImportError, FileNotFoundError) as error:
                raise ProviderUnavailable(NOT_INSTALLED) from error
        self._table: _Floats = model.embedding
        self._tokenizer: Any = model.tokenizer
        self._tokenizer.no_padding()

    def vectors(self, texts: Sequence[str], dims: int) -> tuple[list[bytes], list[int]]:
        """Embed `texts` as unit vectors of `dims` numbers, and count the tokens of each."""
        encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        ids = [encoding.ids for encoding in encoded]
        return [self._vector(one, dims) for one in ids], [len(one) for one in ids]

    def _vector(self, ids: list[int], dims: int) -> bytes:
        # The mean and the sum point the same way; only the direction is kept.
        total = np.zeros(dims, dtype=np.float32)
        for start in range(0, len(ids), CHUNK_TOKENS):
            chunk = ids[start : start + CHUNK_TOKENS]
            total += self._table[chunk, :dims].sum(axis=0, dtype=np.float32)
        length = float(np.sqrt(np.dot(total, total)))
        if not length > 0.0:
            raise RefusedInput("the model knows no token of this text", param="input")
        return (total / np.float32(length)).astype("<f4", copy=False).tobytes()


def _texts(inputs: Sequence[object]) -> list[str]:
    if all(isinstance(one, str) for one in inputs):
        return [str(one) for one in inputs]
    raise RefusedInput("wordllama takes texts, not token arrays", param="input")


@contextmanager
def _root_logger_kept() -> Iterator[None]:
    """Undo `logging.basicConfig(level=INFO)`, which wordllama 0.4 calls when it is imported."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:], root.level = handlers, level
