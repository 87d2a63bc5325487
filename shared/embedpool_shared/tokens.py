"""How many tokens a text is, and what ids say: the only module that knows the tokenizer.

The tokenizer is bpe-openai, whose data ship in its wheel. How it is used here follows from what
was seen in 0.1.4:

- Its Rust `decode` reads outside its memory for an id it does not have: ids become text by a table.
- Importing the package builds three tables in Python (0.9 s, 70 MB, a DeprecationWarning) that only
  its tiktoken look-alike needs, and which asks the network for names it lacks: the extension inside
  is loaded by itself (0.04 s, 30 MB), and the names are listed here.
- It keeps the interpreter's lock while it works: a thread helps only between texts.
"""

from __future__ import annotations

import gzip
from base64 import b64decode
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

VOCABULARY_SIZES: Final = {
    "cl100k_base": 100_256,
    "o200k_base": 199_998,
    "voyage3_base": 151_643,
}
"""The encodings we count with, and how many ordinary ids each has: 0 … size - 1."""


class _Tokenizer(Protocol):
    """What we use of the library."""

    def count(self, text: str) -> int: ...

    def count_till_limit(self, text: str, token_limit: int) -> int | None: ...


class EncodingUnknown(LookupError):
    """We have no tokenizer of that name."""


class TokenIdUnknown(ValueError):
    """An id stands for no text in the vocabulary."""


def knows(encoding: str) -> bool:
    """Say whether `encoding` can be counted with."""
    return encoding in VOCABULARY_SIZES


def vocabulary_size(encoding: str) -> int:
    """Count the ordinary ids; those above are special tokens, which are no text."""
    try:
        return VOCABULARY_SIZES[encoding]
    except KeyError:
        known = ", ".join(VOCABULARY_SIZES)
        raise EncodingUnknown(f"no tokenizer named {encoding!r}; there are {known}") from None


def load(encoding: str) -> None:
    """Load the tokenizer now, so that the first text need not wait 40 ms for it."""
    _tokenizer(encoding)


def count(encoding: str, text: str) -> int:
    """Count the tokens of `text`; what looks like a special token is ordinary text."""
    return _tokenizer(encoding).count(text)


def count_all(encoding: str, texts: Iterable[str]) -> list[int]:
    """Count the tokens of each text."""
    tokenizer = _tokenizer(encoding)
    return [tokenizer.count(text) for text in texts]


def count_up_to(encoding: str, text: str, limit: int) -> int | None:
    """Count the tokens of `text`; None, and early, when there are more than `limit`."""
    return _tokenizer(encoding).count_till_limit(text, limit)


def decode(encoding: str, ids: Sequence[int]) -> str:
    """Turn `ids` into text; bytes that are no UTF-8 become U+FFFD, as a cut inside a letter leaves.

    Raises `TokenIdUnknown` for an id outside the vocabulary and for special tokens: their spelling
    as ordinary text would mean something else.
    """
    pieces = _pieces(encoding)
    if ids and not (min(ids) >= 0 and max(ids) < len(pieces)):
        stray = next(id_ for id_ in ids if not 0 <= id_ < len(pieces))
        raise TokenIdUnknown(f"token id {stray} is not in the vocabulary of {encoding}")
    return b"".join([pieces[id_] for id_ in ids]).decode("utf-8", errors="replace")


@cache
def _tokenizer(encoding: str) -> _Tokenizer:
    vocabulary_size(encoding)
    return cast("_Tokenizer", _bindings().tokenizer_for_encoding(encoding))


@cache
def _bindings() -> Any:
    spec = PathFinder.find_spec("bpe_openai._bindings", [str(_package_folder())])
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError("bpe-openai has no _bindings; embedpool needs 0.1.x of it")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def _pieces(encoding: str) -> list[bytes]:
    pieces = [b""] * vocabulary_size(encoding)
    packed = (_package_folder() / "data" / f"{encoding}.tiktoken.gz").read_bytes()
    for line in gzip.decompress(packed).splitlines():
        piece, id_ = line.split()
        pieces[int(id_)] = b64decode(piece)
    return pieces


def _package_folder() -> Path:
    spec = find_spec("bpe_openai")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("counting tokens needs the package bpe-openai")
    return Path(spec.submodule_search_locations[0])
