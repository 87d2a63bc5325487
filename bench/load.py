"""A load generator cheap enough not to be what is measured.

n keep-alive connections in a closed loop: each sends its next request when it has its answer, from
a raw asyncio.Protocol on uvloop. Every status is checked, and every vector of one answer in 64.
Each process of a load has its own loop and connections; the first moments are not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import re
import resource
import time
from array import array
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Final, cast
from urllib.parse import urlsplit

import numpy as np
import uvloop
from typing_extensions import override

from bench.questions import Encoding, Questions

_END_OF_HEAD: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_CHECK_EVERY: Final = 64
_PATIENCE_S: Final = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What to send, from how many connections, for how long."""

    url: str
    model: str
    dims: int
    connections: int
    seconds: float
    texts: int = 1
    encoding: Encoding = Encoding.BASE64
    processes: int = 1
    key: str = "sk-bench"
    warmup_s: float = 0.5


@dataclass(slots=True)
class Outcome:
    """What came back, after the warm-up."""

    seconds: float = 0.0
    latencies_s: array[float] = field(default_factory=lambda: array("d"))
    failures: int = 0
    first_failure: str = ""
    cpu_s: float = 0.0

    @property
    def requests_per_s(self) -> float:
        """Answers per second over all connections."""
        return len(self.latencies_s) / self.seconds

    def quantile_ms(self, share: float) -> float:
        """The latency that this share of the answers did not exceed."""
        return float(np.quantile(np.asarray(self.latencies_s), share)) * 1_000

    def fail(self, why: str) -> None:
        """Count a wrong answer."""
        self.failures += 1
        self.first_failure = self.first_failure or why


class _Shift:
    """What the connections of one process share: questions, the clock, the outcome."""

    def __init__(self, questions: Questions, load: Load) -> None:
        self.questions = questions
        self.outcome = Outcome(seconds=load.seconds)
        self.counts_from = time.perf_counter() + load.warmup_s
        self.ends_at = self.counts_from + load.seconds
        self._next = 0

    def next_number(self) -> int:
        """Number the next request."""
        self._next += 1
        return self._next


class _Caller(asyncio.Protocol):
    """One connection in a closed loop; `done` is set when it has had its last answer."""

    def __init__(self, shift: _Shift) -> None:
        self._shift = shift
        self._chunks: list[bytes] = []
        self._received = self._expected = 0
        self._number = 0
        self._sent_at = 0.0
        self._transport: asyncio.Transport
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, because uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self._shift.outcome.fail(f"connection lost: {exc}")
            self.done.set_result(None)

    @override
    def data_received(self, data: bytes) -> None:
        self._chunks.append(data)
        self._received += len(data)
        if not self._expected and not self._read_head():
            return
        if self._received >= self._expected:
            self._take(time.perf_counter())

    def _ask(self) -> None:
        self._number = self._shift.next_number()
        self._chunks.clear()
        self._received = self._expected = 0
        self._sent_at = time.perf_counter()
        self._transport.write(self._shift.questions.request(self._number))

    def _read_head(self) -> bool:
        start = b"".join(self._chunks) if len(self._chunks) > 1 else self._chunks[0]
        end = start.find(_END_OF_HEAD)
        if end < 0:
            return False
        length = _LENGTH.search(start, 0, end)
        if length is None:
            self._give_up("an answer without content-length")
            return False
        self._expected = end + len(_END_OF_HEAD) + int(length[1])
        return True

    def _take(self, now: float) -> None:
        shift = self._shift
        status = self._chunks[0][9:12]
        if status != b"200":
            self._give_up(b"".join(self._chunks)[:500].decode(errors="replace"))
            return
        if self._number % _CHECK_EVERY == 1 and not self._is_right():
            shift.outcome.fail(f"wrong vectors in the answer to request {self._number}")
        if shift.counts_from <= now < shift.ends_at:
            shift.outcome.latencies_s.append(now - self._sent_at)
        if now < shift.ends_at:
            self._ask()
        else:
            self._finish()

    def _is_right(self) -> bool:
        body = b"".join(self._chunks).partition(_END_OF_HEAD)[2]
        return self._shift.questions.is_answered_by(body, self._number)

    def _give_up(self, why: str) -> None:
        self._shift.outcome.fail(why)
        self._finish()

    def _finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)
        self._transport.abort()


async def _call(load: Load, salt: str) -> Outcome:
    address = urlsplit(load.url)
    host, port = address.hostname or "", address.port or 80
    questions = Questions(
        address.netloc,
        load.model,
        load.dims,
        load.texts,
        load.encoding,
        key=load.key,
        salt=salt,
    )
    questions.request(0)
    loop = asyncio.get_running_loop()
    shift = _Shift(questions, load)
    callers = [
        (await loop.create_connection(lambda: _Caller(shift), host, port))[1]
        for _ in range(load.connections)
    ]
    patience_s = load.warmup_s + load.seconds + _PATIENCE_S
    _, late = await asyncio.wait([caller.done for caller in callers], timeout=patience_s)
    for _ in late:
        shift.outcome.fail(f"no answer within {_PATIENCE_S:g} s")
    return shift.outcome


def _work(load: Load, salt: str) -> Outcome:
    outcome = uvloop.run(_call(load, salt))
    used = resource.getrusage(resource.RUSAGE_SELF)
    outcome.cpu_s = used.ru_utime + used.ru_stime
    return outcome


def measure(load: Load) -> Outcome:
    """Put `load` on its URL, from processes of their own, and say what came back."""
    shares = [
        replace(load, connections=len(range(n, load.connections, load.processes)))
        for n in range(min(load.processes, load.connections))
    ]
    # A salt of fixed length: no two runs send the same texts, and all send as many bytes.
    salts = [f"{time.monotonic_ns() % 10**12:012d}-{n:02d}" for n in range(len(shares))]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(shares), mp_context=spawn) as pool:
        outcomes = list(pool.map(_work, shares, salts))
    total = Outcome(seconds=load.seconds)
    for outcome in outcomes:
        total.latencies_s.extend(outcome.latencies_s)
        total.failures += outcome.failures
        total.first_failure = total.first_failure or outcome.first_failure
        total.cpu_s += outcome.cpu_s
    return total


def main() -> None:
    """Load any OpenAI-style endpoint that answers with the fake provider's vectors."""
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("url", help="http://host:port, without a path")
    parser.add_argument("--model", default="bench-embed")
    parser.add_argument("--dims", type=int, default=1_536)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--texts", type=int, default=1, help="per request")
    parser.add_argument("--encoding", type=Encoding, choices=list(Encoding), default="base64")
    parser.add_argument("--processes", type=int, default=1)
    outcome = measure(Load(**vars(parser.parse_args())))
    if not outcome.latencies_s:
        parser.exit(1, f"no right answer at all: {outcome.first_failure}\n")
    print(
        f"{outcome.requests_per_s:,.0f} requests/s · p50 {outcome.quantile_ms(0.5):.2f} ms · "
        f"p99 {outcome.quantile_ms(0.99):.2f} ms · {outcome.failures} failures "
        f"{outcome.first_failure}"
    )


if __name__ == "__main__":
    main()
