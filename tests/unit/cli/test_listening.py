from __future__ import annotations

import socket

import pytest

from embedpool_cli.listening import base_url, listening_socket
from embedpool_shared.errors import ConfigInvalid


def test_a_free_port_is_found_and_answers_from_the_start() -> None:
    with listening_socket("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]

        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            assert connection.getpeername() == ("127.0.0.1", port)


def test_a_taken_port_is_named_together_with_the_way_out() -> None:
    with listening_socket("127.0.0.1", 0) as first:
        port = first.getsockname()[1]

        with pytest.raises(ConfigInvalid, match=f"port {port} .* is taken.*--port"):
            listening_socket("127.0.0.1", port)


def test_a_port_can_be_used_again_right_after_its_connections_were_closed() -> None:
    with listening_socket("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            # Ours closes first, so it is ours that lingers in TIME_WAIT.
            first.accept()[0].close()

    listening_socket("127.0.0.1", port).close()


def test_localhost_is_the_ipv4_one() -> None:
    with listening_socket("localhost", 0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize("host", ["203.0.113.7", "a" * 70])
def test_an_address_that_is_not_ours_is_refused_by_name(host: str) -> None:
    with pytest.raises(ConfigInvalid, match=host):
        listening_socket(host, 0)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:4000"),
        ("localhost", "http://localhost:4000"),
        ("0.0.0.0", "http://127.0.0.1:4000"),  # noqa: S104
        ("", "http://127.0.0.1:4000"),
        ("::", "http://[::1]:4000"),
        ("::1", "http://[::1]:4000"),
        ("[::1]", "http://[::1]:4000"),
    ],
)
def test_the_url_is_one_this_machine_can_use(host: str, url: str) -> None:
    assert base_url(host, 4000) == url
