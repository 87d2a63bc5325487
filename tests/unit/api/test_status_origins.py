"""A page of another site can neither log in here nor log out."""

from __future__ import annotations

import pytest

from embedpool_api.status.origins import is_by_https, refuse_other_sites
from embedpool_shared.errors import RouteNotAllowed

HOST = (b"host", b"pool.example:4000")


@pytest.mark.parametrize(
    "headers",
    [
        {b"sec-fetch-site": b"same-origin"},
        {b"sec-fetch-site": b"none"},
        {
            b"sec-fetch-site": b"same-origin",
            b"origin": b"https://outside.example",
        },  # a proxy's Host
        {b"origin": b"http://pool.example:4000"},
        {},
    ],
    ids=["says so", "typed", "behind a proxy", "by its origin", "no browser"],
)
def test_our_own_page_is_welcome(headers: dict[bytes, bytes]) -> None:
    refuse_other_sites(dict([HOST]) | headers)


@pytest.mark.parametrize(
    "headers",
    [
        {b"sec-fetch-site": b"cross-site"},
        {b"sec-fetch-site": b"same-site"},
        {b"sec-fetch-site": b"cross-site", b"origin": b"http://pool.example:4000"},
        {b"origin": b"http://evil.example"},
        {b"origin": b"http://pool.example:4001"},
        {b"origin": b"http://pool.example:4000.evil.example"},
        {b"origin": b"null"},
        {b"origin": b""},
    ],
)
def test_anybody_elses_page_is_refused(headers: dict[bytes, bytes]) -> None:
    with pytest.raises(RouteNotAllowed):
        refuse_other_sites(dict([HOST]) | headers)


@pytest.mark.parametrize(
    ("scheme", "headers"),
    [
        ("https", {}),
        ("http", {b"x-forwarded-proto": b"https"}),
        ("http", {b"x-forwarded-proto": b"HTTPS, http"}),
        ("http", {b"origin": b"https://pool.example"}),
    ],
)
def test_https_is_seen_through_a_proxy(scheme: str, headers: dict[bytes, bytes]) -> None:
    assert is_by_https(scheme, headers)


def test_plain_http_is_what_it_is() -> None:
    assert not is_by_https("http", {b"origin": b"http://https.example"})
