"""One connection's exchanges: who is answered, who is heard, and when silence ends the wait."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from embedpool_shared.redis_wire import Wire
from support.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Coroutine


class Transport:
    """Keeps what was written; an abort tells the wire at the loop's next turn, as a real one."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.is_aborted = False
        self.wire: Wire | None = None

    def write(self, packed: bytes) -> None:
        self.written.append(packed)

    def abort(self) -> None:
        if not self.is_aborted and self.wire is not None:
            asyncio.get_running_loop().call_soon(self.wire.connection_lost, None)
        self.is_aborted = True


def a_wire() -> tuple[Wire, Transport]:
    """A wire on a transport of the test's own, read as redis-py's would be."""
    transport = Transport()
    transport.wire = Wire(cast("asyncio.Transport", transport), ValueError)
    return transport.wire, transport


def now() -> float:
    return asyncio.get_running_loop().time()


async def silent_for(answered: asyncio.Future[list[Any]]) -> float:
    """How long it took until silence was an error."""
    began_at = now()
    with pytest.raises(TimeoutError):
        await answered
    return now() - began_at


def run(main: Coroutine[Any, Any, None]) -> None:
    in_virtual_time(main)


def test_an_answer_in_pieces_is_given_once_it_is_whole() -> None:
    async def main() -> None:
        wire, transport = a_wire()

        answered = wire.ask(b"two commands", 2, patience_s=5.0)
        for piece in (b":1\r", b"\n$2\r\n", b"ok\r\n"):
            assert not answered.done()
            wire.data_received(piece)

        assert await answered == [1, b"ok"]
        assert transport.written == [b"two commands"]

    run(main())


def test_a_silent_redis_is_given_up_after_the_patience_of_the_exchange_under_way() -> None:
    async def main() -> None:
        for patiences_s in ([5.0], [5.0, 0.5], [0.5, 5.0], [5.0, 0.5, 35.0, 2.0]):
            wire, transport = a_wire()
            *before, last = patiences_s
            for patience_s in before:
                answered = wire.ask(b"PING", 1, patience_s=patience_s)
                await asyncio.sleep(0.3)
                wire.data_received(b"+PONG\r\n")
                assert await answered == [b"PONG"]

            assert await silent_for(wire.ask(b"PING", 1, patience_s=last)) == pytest.approx(last)
            assert wire.is_broken
            assert transport.is_aborted

    run(main())


def test_a_wire_that_nobody_asks_does_not_break_of_silence() -> None:
    async def main() -> None:
        wire, transport = a_wire()
        answered = wire.ask(b"PING", 1, patience_s=0.5)
        wire.data_received(b"+PONG\r\n")
        await answered

        await asyncio.sleep(60.0)
        assert (wire.is_broken, transport.is_aborted) == (False, False)
        assert await silent_for(wire.ask(b"PING", 1, patience_s=0.5)) == pytest.approx(0.5)

    run(main())


def test_a_broken_connection_tells_whoever_waits_and_leaves_no_timer() -> None:
    async def main() -> None:
        wire, _ = a_wire()
        answered = wire.ask(b"PING", 1, patience_s=5.0)

        wire.connection_lost(BrokenPipeError("gone"))

        with pytest.raises(BrokenPipeError):
            await answered
        assert wire._watch is None or wire._watch.cancelled()

    run(main())


def test_what_is_not_the_protocol_breaks_the_connection() -> None:
    async def main() -> None:
        wire, transport = a_wire()
        answered = wire.ask(b"PING", 1, patience_s=5.0)

        wire.data_received(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        with pytest.raises(ConnectionResetError):
            await answered
        assert transport.is_aborted

    run(main())


def test_an_error_is_awaited_and_not_heard_and_the_next_replies_are() -> None:
    async def main() -> None:
        wire, _ = a_wire()
        heard: list[Any] = []

        refused = wire.ask(b"two commands", 2, patience_s=5.0, heard=heard.append)
        wire.data_received(b":1\r\n-ERR no\r\n")
        number, error = await refused
        assert (number, type(error), wire.has_refused, heard) == (1, ValueError, True, [])

        fine = wire.ask(b"PING", 1, patience_s=5.0, heard=heard.append)
        wire.data_received(b"+PONG\r\n")
        assert (await fine, wire.has_refused, heard) == ([b"PONG"], False, [[b"PONG"]])

    run(main())


def test_a_reply_after_its_asker_has_gone_is_nobodys() -> None:
    async def main() -> None:
        wire, _ = a_wire()
        heard: list[Any] = []
        answered = wire.ask(b"GET k", 1, patience_s=5.0, heard=heard.append)
        answered.cancel()

        wire.data_received(b"+late\r\n")

        assert heard == []

    run(main())
