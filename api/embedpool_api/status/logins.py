"""How often somebody may try to log in: so often from one place, and then slowly. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

from embedpool_api.own_keys import site_of

MAX_TRIES: Final = 8
WINDOW_S: Final = 60.0
MAX_SITES: Final = 1_000


class Logins:
    """Counts tries by the place they come from; tests use other bounds."""

    def __init__(self, *, max_tries: int = MAX_TRIES, max_sites: int = MAX_SITES) -> None:
        """Begin with nobody."""
        self._max_tries = max_tries
        self._max_sites = max_sites
        self._tries: OrderedDict[str, deque[float]] = OrderedDict()

    def wait_s(self, address: str, *, now: float) -> float:
        """Count a try and return 0.0; or count nothing and say how long until the next may be."""
        site = site_of(address)
        tries = self._tries.setdefault(site, deque())
        self._tries.move_to_end(site)
        if len(self._tries) > self._max_sites:
            self._tries.popitem(last=False)
        while tries and not tries[0] <= now < tries[0] + WINDOW_S:  # a clock may be set back
            tries.popleft()
        if len(tries) >= self._max_tries:
            return tries[0] + WINDOW_S - now
        tries.append(now)
        return 0.0

    def forget(self, address: str) -> None:
        """Forget the tries of somebody who got in."""
        self._tries.pop(site_of(address), None)
