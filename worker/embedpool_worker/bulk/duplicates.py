"""Names that occur twice among millions, in eight bytes each. Pure.

Names whose 64-bit hashes differ are different. Those whose hashes are equal, nearly always because
the names are, have to be compared: that takes reading them again, and only them.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy.typing as npt

_MASK: Final = (1 << 64) - 1


class Seen:
    """The hashes of all names so far."""

    def __init__(self, hash_of: Callable[[str], int] = hash) -> None:
        """`hash_of` has to be the same for as long as this lives."""
        self._hash_of = hash_of
        self._hashes = array("Q")

    def add(self, name: str) -> None:
        """Count a name in."""
        self._hashes.append(self._hash_of(name) & _MASK)

    def suspects(self) -> npt.NDArray[np.uint64]:
        """List the hashes that occurred more than once; no further name may be added then."""
        # Sorted where they are: a copy would take as much once more.
        hashes = np.frombuffer(self._hashes, dtype=np.uint64)
        hashes.sort()
        return np.unique(hashes[1:][hashes[1:] == hashes[:-1]])

    def repeated(
        self, names: Iterable[tuple[int, str]], suspects: Iterable[int]
    ) -> Iterator[tuple[int, str, int]]:
        """Yield (number, name, number where it was first) of numbered names that occur again."""
        wanted = frozenset(suspects)
        first: dict[str, int] = {}
        for number, name in names:
            if self._hash_of(name) & _MASK in wanted:
                before = first.setdefault(name, number)
                if before != number:
                    yield number, name, before
