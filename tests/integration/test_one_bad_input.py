"""64 callers share a call, one of them sent poison: 63 answers, one error, few further calls."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from typing_extensions import override

from embedpool_shared.errors import EmbedPoolError, InputRefused, RefusedInput, WrongAnswer
from integration.one_process import Embedder, Site, right, vectors_in

if TYPE_CHECKING:
    from embedpool_shared.errors import ProviderError
    from embedpool_worker.providers.port import ProviderAnswer, ProviderCall
    from support.valkey import RedisServer


class Disliking(Embedder):
    """Refuses every call with the poison in it."""

    def __init__(self, error: ProviderError) -> None:
        super().__init__(latency_s=0.01)
        self._error = error

    @override
    async def embed(self, call: ProviderCall) -> ProviderAnswer:
        answer = await super().embed(call)
        if "poison" in call.inputs:
            raise self._error
        return answer


@pytest.mark.parametrize(
    "error", [RefusedInput("cannot embed that"), WrongAnswer("NaN in it")], ids=["400", "NaN"]
)
@pytest.mark.parametrize("place", [0, 41])
async def test_one_poisonous_input_among_64_callers_hurts_nobody_else(
    valkey: RedisServer, error: ProviderError, place: int
) -> None:
    texts = [f"text {n}" for n in range(64)]
    texts[place] = "poison"
    async with Site(valkey.url) as site:
        provider, api = Disliking(error), site.api()
        answers = [api.post(["text 1", text] if text == "poison" else [text]) for text in texts]
        await api.accepted(*answers)
        site.worker(provider, max_items=65)

        ended = await asyncio.gather(*(a.done for a in answers), return_exceptions=True)

        refused = ended.pop(place)
        assert isinstance(refused, EmbedPoolError)
        if isinstance(error, RefusedInput):
            assert isinstance(refused, InputRefused)
            assert refused.param == "input[1]"
        assert [vectors_in(e)[0] for e in ended if not isinstance(e, BaseException)] == right(
            [text for text in texts if text != "poison"]
        )
        assert len(provider.calls[0]) == 64
        assert len(provider.calls) - 1 <= 13
        assert await site.is_quiet()
