"""Which page a request comes from, as far as its browser says. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from embedpool_shared.errors import RouteNotAllowed

if TYPE_CHECKING:
    from collections.abc import Mapping

OUR_OWN: Final = (b"same-origin", b"none")
HTTPS: Final = b"https"


def refuse_other_sites(headers: Mapping[bytes, bytes]) -> None:
    """Raise `RouteNotAllowed` for what another site's page sends; no page at all is not one.

    Browsers that say so compare the origins themselves, and know better than we do behind a proxy.
    """
    site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
    if site is not None:
        is_ours = site in OUR_OWN
    else:
        is_ours = origin is None or origin.partition(b"://")[2] == headers.get(b"host")
    if not is_ours:
        raise RouteNotAllowed("Another site's page may not log in here, or log out")


def is_by_https(scheme: str, headers: Mapping[bytes, bytes]) -> bool:
    """Say whether the browser speaks HTTPS, to us or to a proxy in front of us."""
    said = (headers.get(b"x-forwarded-proto", b""), headers.get(b"origin", b""))
    return scheme == "https" or any(word.strip().lower().startswith(HTTPS) for word in said)
