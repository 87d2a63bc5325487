"""What embedpool adds to a lone request: the same request, through it and past it, in turns."""

from __future__ import annotations

import argparse
import re
import socket
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import numpy as np

from bench.machine import machine_line, price_of_a_pause
from bench.questions import Questions
from bench.report import table
from bench.stand import DIMS, MODEL, standing

_END_OF_HEAD: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_TIMEOUT_S: Final = 30.0


@dataclass
class LoneCaller:
    """One keep-alive connection, one request at a time, on plain blocking sockets."""

    url: str
    salt: str
    latencies_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Connect."""
        address = urlsplit(self.url)
        assert address.hostname is not None
        assert address.port is not None
        self._questions = Questions(address.netloc, MODEL, DIMS, salt=self.salt)
        self._socket = socket.create_connection((address.hostname, address.port), _TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, number: int) -> None:
        """Send one request and note how long its right answer took; a wrong one ends the run."""
        request = self._questions.request(number)
        sent_at = time.perf_counter()
        self._socket.sendall(request)
        head, body = self._answer()
        self.latencies_s.append(time.perf_counter() - sent_at)
        if head[9:12] != b"200" or not self._questions.is_answered_by(body, number):
            sys.exit(f"{self.url} answered wrongly: {(head + body)[:300].decode(errors='replace')}")

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def quantile_ms(self, share: float) -> float:
        """The latency that this share of the answers did not exceed."""
        return float(np.quantile(self.latencies_s, share)) * 1_000

    def _answer(self) -> tuple[bytes, bytes]:
        received = b""
        while (end := received.find(_END_OF_HEAD)) < 0:
            received += self._some()
        length = _LENGTH.search(received, 0, end)
        if length is None:
            sys.exit(f"{self.url} answered without content-length")
        start = end + len(_END_OF_HEAD)
        while len(received) < start + int(length[1]):
            received += self._some()
        return received[:end], received[start:]

    def _some(self) -> bytes:
        some = self._socket.recv(65_536)
        if not some:
            sys.exit(f"{self.url} hung up")
        return some


def take_turns(callers: list[LoneCaller], *, rounds: int, warmup_rounds: int) -> None:
    """Let each caller ask once per round, so that all meet the same moments of the machine."""
    for number in range(warmup_rounds + rounds):
        for caller in callers:
            caller.ask(number)
    for caller in callers:
        del caller.latencies_s[:warmup_rounds]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.added_latency", description=__doc__)
    parser.add_argument("--latency-ms", type=float, default=5.0, help="of the fake provider")
    parser.add_argument("--rounds", type=int, default=1_000)
    return parser.parse_args()


def main() -> None:
    """Print the latencies of both ways and their difference."""
    options = _options()
    print(machine_line())
    price = price_of_a_pause(options.latency_ms / 1_000)
    print(f"after {options.latency_ms:g} ms of waiting any code takes {price:.1f} × as long here\n")
    with (
        tempfile.TemporaryDirectory(prefix="ep-bench-") as name,
        standing(Path(name), latency_ms=options.latency_ms) as stand,
    ):
        callers = [LoneCaller(stand.pool_url, "pool"), LoneCaller(stand.fake_url, "fake")]
        take_turns(callers, rounds=options.rounds, warmup_rounds=50)
    ways = [[caller.quantile_ms(share) for share in (0.5, 0.9, 0.99)] for caller in callers]
    added = [through - past for through, past in zip(*ways, strict=True)]
    names = ["through embedpool", "past it", "added"]
    rows = [
        [name, *(f"{value:.2f}" for value in values)]
        for name, values in zip(names, [*ways, added], strict=True)
    ]
    title = f"provider of {options.latency_ms:g} ms, one text, base64"
    print(table([title, "p50 ms", "p90 ms", "p99 ms"], rows))


if __name__ == "__main__":
    main()
