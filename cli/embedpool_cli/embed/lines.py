"""Reads an input's lines, plain or compressed, and knows how far it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import BufferedReader, RawIOBase
from typing import IO, Any, Final

import pyarrow as pa
from typing_extensions import override

from embedpool_cli.embed.order import Input

STDIN: Final = 0
PIECE_BYTES: Final = 1 << 20
MAX_LINE_BYTES: Final = 64 * PIECE_BYTES
MAGIC: Final = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}


class Broken(Exception):
    """An input cannot be read any further."""


class Stream:
    """The bytes of one input, decompressed."""

    def __init__(self, source: Input) -> None:
        """Open it; raises `OSError`."""
        self._name = source.path
        self._raw = _opened(source)
        self._counted = _Counted(self._raw)
        self._bytes: Any = _decompressed(self._counted)

    @property
    def consumed_bytes(self) -> int:
        """How much of the file has been read."""
        return self._counted.count

    def read(self, size: int) -> bytes:
        """Read at most so many bytes, none at the end; raises `Broken`."""
        try:
            return bytes(self._bytes.read(size))
        except OSError as error:
            # Arrow's errors about damaged compression are plain OSErrors with a text.
            raise Broken(f"{self._name} cannot be read on: {error.strerror or error}") from None

    def lines(self) -> Iterator[bytes | None]:
        """Yield lines without their ends; None for one too long to be kept."""
        rest = b""
        is_dropping = False
        while piece := self.read(PIECE_BYTES):
            first, *others = piece.split(b"\n")
            rest += first
            if others:
                yield None if is_dropping else rest.removesuffix(b"\r")
                is_dropping = False
                *whole, rest = others
                for line in whole:
                    yield line.removesuffix(b"\r")
            if len(rest) > MAX_LINE_BYTES:
                rest, is_dropping = b"", True
        if rest or is_dropping:
            yield None if is_dropping else rest.removesuffix(b"\r")

    def file(self) -> BufferedReader:
        """Look at it as a file for Python's own readers."""
        return BufferedReader(_File(self), PIECE_BYTES)

    def close(self) -> None:
        """Close it."""
        self._raw.close()


class _Counted:
    """A file that counts what is read of it, as Arrow likes files."""

    closed = False
    mode = "rb"

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._ahead = raw.read(4)
        self.head = self._ahead
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        if self._ahead:
            piece, self._ahead = self._ahead, b""
        else:
            piece = self._raw.read(size)
        self.count += len(piece)
        return piece

    def close(self) -> None:
        """Nothing: whoever opened the file closes it."""

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def flush(self) -> None:
        """Nothing to flush."""


class _File(RawIOBase):
    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Any) -> int:
        piece = self._stream.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


def _opened(source: Input) -> IO[bytes]:
    if source.is_stream:
        # A file of our own, unbuffered: a thread that waits in sys.stdin would hold up our end.
        return open(os.dup(STDIN), "rb", buffering=0)
    return open(source.path, "rb", buffering=PIECE_BYTES)


def _decompressed(file: _Counted) -> Any:
    kind = next((name for magic, name in MAGIC.items() if file.head.startswith(magic)), None)
    return file if kind is None else pa.CompressedInputStream(pa.PythonFile(file, mode="r"), kind)


def size_bytes(source: Input) -> int | None:
    """Measure a file; None for standard input. Raises `OSError`."""
    return None if source.is_stream else os.stat(source.path).st_size
