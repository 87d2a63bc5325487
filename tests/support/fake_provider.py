"""A provider of embeddings over HTTP that counts its calls and misbehaves as it is told.

It speaks OpenAI's, Azure's and Cohere's embedding APIs. An answer's vectors are
`vectors.vector_of(input, dimensions, model)`, so a test can compute what it must get. In a test:

    with FakeProvider.in_thread(latency_s=0.05) as fake:
        fake.behave(Behaviour(status=429, calls=1, headers={"retry-after": "1"}))

`async with FakeProvider() as fake` serves on the test's own loop. As a process of its own,
`python -m support.fake_provider --port 0` prints its URL and takes `GET /_stats`, `POST /_reset`
and `POST /_behave` (a JSON list of behaviours).
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Final, Self

import orjson
import uvloop

from support.background import in_background
from support.calls import Call, CallLog, Totals
from support.cohere_format import CohereFormat
from support.faults import Behaviour, Distortion, Faults, behaviour_from, merged
from support.http_server import Head, HttpServer, Response, Traffic
from support.key_minutes import KeyMinutes
from support.openai_format import OpenAIFormat
from support.plain_answers import plain_answer
from support.refusals import refuse
from support.vectors import token_count
from support.wire_formats import Ask, Refused, WireFormat, entries_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from types import TracebackType

    from support.vectors import Input

DEFAULT_DIMS: Final = 1_536
_ERROR_IN_200: Final = "The server had an error while processing your request"


class FakeProvider:
    """One provider: its address, what it was asked, and how it behaves."""

    def __init__(
        self,
        *,
        dims: int = DEFAULT_DIMS,
        latency_s: float = 0.0,
        latency_per_text_s: float = 0.0,
        keep_calls: int = 100_000,
        count_tokens: Callable[[Input], int] = token_count,
    ) -> None:
        self._dims = dims
        self._count_tokens = count_tokens
        self._usual = Behaviour(latency_s=latency_s, latency_per_text_s=latency_per_text_s)
        self._log = CallLog(keep=keep_calls)
        self._faults = Faults()
        self._minutes = KeyMinutes()
        self._is_plain = self._is_plain_when(())
        self._server = HttpServer(self._answer)
        self._formats: dict[str, WireFormat] = {
            "/v2/embed": CohereFormat(version=2),
            "/v1/embed": CohereFormat(version=1),
        }
        self._openai = OpenAIFormat()
        self._own: dict[tuple[str, str], Callable[[bytes], object]] = {
            ("GET", "/_stats"): lambda _: self._stats(),
            ("POST", "/_reset"): lambda _: self.forget(),
            ("POST", "/_behave"): self._behave_as_described,
        }

    @classmethod
    def in_thread(
        cls,
        *,
        dims: int = DEFAULT_DIMS,
        latency_s: float = 0.0,
        latency_per_text_s: float = 0.0,
        keep_calls: int = 100_000,
        count_tokens: Callable[[Input], int] = token_count,
    ) -> AbstractContextManager[FakeProvider]:
        """Serve from a thread of its own; everything public may be used from the test's."""
        return in_background(
            lambda: cls(
                dims=dims,
                latency_s=latency_s,
                latency_per_text_s=latency_per_text_s,
                keep_calls=keep_calls,
                count_tokens=count_tokens,
            )
        )

    async def start(self, port: int = 0) -> None:
        """Serve on 127.0.0.1; port 0 takes a free one."""
        await self._server.start(port)

    async def stop(self) -> None:
        """Stop serving and drop every connection."""
        await self._server.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """Where it is, without a path; Cohere's base URL, and Azure's."""
        return f"http://127.0.0.1:{self._server.port}"

    @property
    def api_base(self) -> str:
        """What an OpenAI client takes as its base URL."""
        return f"{self.url}/v1"

    @property
    def calls(self) -> list[Call]:
        """The calls so far, oldest first, refused ones too unless their body could not be read."""
        return self._log.calls()

    @property
    def totals(self) -> Totals:
        """Sums over all calls so far."""
        return self._log.totals()

    @property
    def traffic(self) -> Traffic:
        """Connections and calls in flight, now and at most."""
        return replace(self._server.traffic)

    def behave(self, *behaviours: Behaviour) -> None:
        """Behave like this from the next call on; without arguments, well."""
        self._faults.set(behaviours)
        self._is_plain = self._is_plain_when(behaviours)

    def forget(self) -> None:
        """Forget the calls so far."""
        self._log.reset()

    def _is_plain_when(self, behaviours: Sequence[Behaviour]) -> bool:
        is_usual = self._usual == Behaviour() and self._count_tokens is token_count
        return not behaviours and is_usual and not self._log.keeps_calls

    def _stats(self) -> dict[str, object]:
        return asdict(self.totals) | asdict(self.traffic)

    def _behave_as_described(self, body: bytes) -> None:
        self.behave(*map(behaviour_from, orjson.loads(body)))

    def _answer(self, head: Head, body: bytes) -> Response:
        if self._is_plain and head.path == "/v1/embeddings":
            plain = plain_answer(body, self._dims)
            if plain is not None:
                self._log.count(items=plain.items, tokens=plain.tokens, status=200, key=head.key)
                return Response(plain.body)
        if (own := self._own.get((head.method, head.path))) is not None:
            return _own_answer(own, body)
        wire = self._format_of(head.path)
        if wire is None or head.method != "POST":
            message = f"Invalid URL ({head.method} {head.path})"
            return Response(self._openai.error(404, message, None), 404)
        try:
            ask = wire.ask_from(head.path, body)
        except Refused as refusal:
            self._log.count(items=0, tokens=0, status=refusal.status, key=head.key)
            return _refusal(wire, refusal, Behaviour())
        return self._answer_ask(wire, head, ask)

    def _format_of(self, path: str) -> WireFormat | None:
        return self._openai if path.endswith("/embeddings") else self._formats.get(path)

    def _answer_ask(self, wire: WireFormat, head: Head, ask: Ask) -> Response:
        faults = self._faults.of(head.key, ask.items)
        behaviour = merged([self._usual, *faults]) if faults else self._usual
        counts = [self._count_tokens(item) for item in ask.items]
        tokens = sum(counts)
        if behaviour.rpm or behaviour.tpm:
            behaviour = self._limited(head.key, tokens, behaviour)
        try:
            refuse(ask, counts, behaviour)
        except Refused as refusal:
            response = _refusal(wire, refusal, behaviour)
        else:
            response = Response(self._body(wire, ask, tokens, behaviour), headers=behaviour.headers)
        self._record(head, ask, tokens, response.status)
        return _delivered(response, len(ask.items), behaviour)

    def _limited(self, key: str | None, tokens: int, behaviour: Behaviour) -> Behaviour:
        wait_s = self._minutes.wait_s(
            key, tokens, rpm=behaviour.rpm, tpm=behaviour.tpm, now=time.monotonic()
        )
        if not wait_s:
            return behaviour
        return replace(behaviour, status=429, headers={"retry-after": f"{wait_s:.3f}"})

    def _body(self, wire: WireFormat, ask: Ask, tokens: int, behaviour: Behaviour) -> bytes:
        distortion = behaviour.distortion
        if distortion is Distortion.ERROR_IN_200:
            return wire.error(500, behaviour.message or _ERROR_IN_200, None)
        if distortion is Distortion.NOT_JSON:
            return b"<html><body>Service Unavailable</body></html>"
        entries = entries_of(ask, ask.dims or self._dims, behaviour)
        body = wire.answer(ask, entries, None if distortion is Distortion.NO_USAGE else tokens)
        if distortion is Distortion.TRUNCATED_JSON:
            return body[: len(body) // 2]
        return body + b" " * behaviour.padding_bytes if behaviour.padding_bytes else body

    def _record(self, head: Head, ask: Ask, tokens: int, status: int) -> None:
        self._log.count(items=len(ask.items), tokens=tokens, status=status, key=head.key)
        if not self._log.keeps_calls:
            return
        self._log.remember(
            Call(
                at=time.monotonic(),
                path=f"{head.path}?{head.query}" if head.query else head.path,
                key=head.key,
                headers=head.headers,
                model=ask.model,
                items=ask.items,
                tokens=tokens,
                fields=ask.fields,
                status=status,
            )
        )


def _own_answer(own: Callable[[bytes], object], body: bytes) -> Response:
    try:
        return Response(orjson.dumps(own(body), option=orjson.OPT_NON_STR_KEYS))
    except (ValueError, TypeError) as error:
        return Response(orjson.dumps({"error": str(error)}), 400)


def _refusal(wire: WireFormat, refusal: Refused, behaviour: Behaviour) -> Response:
    body = (
        wire.error(refusal.status, refusal.message, refusal.param)
        if behaviour.body is None
        else behaviour.body.encode()
    )
    return Response(body, refusal.status, behaviour.headers)


def _delivered(response: Response, items: int, behaviour: Behaviour) -> Response:
    delay_s = behaviour.latency_s + behaviour.latency_per_text_s * items
    if not delay_s and behaviour.ending is response.ending:
        return response
    return replace(
        response,
        delay_s=delay_s,
        ending=behaviour.ending,
        trickle_bytes=behaviour.trickle_bytes,
        trickle_pause_s=behaviour.trickle_pause_s,
    )


async def _serve(options: argparse.Namespace) -> None:
    fake = FakeProvider(
        dims=options.dims,
        latency_s=options.latency_ms / 1_000,
        latency_per_text_s=options.latency_per_text_ms / 1_000,
        keep_calls=0,
    )
    await fake.start(options.port)
    sys.stdout.write(f"{fake.url}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def main() -> None:
    """Serve until killed; the URL is the only line of output."""
    parser = argparse.ArgumentParser(prog="python -m support.fake_provider", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--dims", type=int, default=DEFAULT_DIMS)
    parser.add_argument("--latency-ms", type=float, default=0.0, help="of every call")
    parser.add_argument("--latency-per-text-ms", type=float, default=0.0)
    uvloop.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
