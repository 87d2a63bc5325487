"""The operator's proxy and certificates; redirects and too large answers, in every adapter."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import subprocess
import sys
import zlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest

from embedpool_shared.errors import ProviderUnavailable, WrongAnswer
from embedpool_worker.caps import Caps
from embedpool_worker.deployments import Adapter, Deployment
from embedpool_worker.providers.http_options import HttpOptions
from embedpool_worker.providers.litellm_errors import ours
from embedpool_worker.providers.litellm_http import Border, Sighting, watched
from embedpool_worker.providers.openai_wire import OpenAIWire
from embedpool_worker.providers.port import ProviderAnswer, ProviderCall
from embedpool_worker.providers.sdk_environment import sdk_environment
from embedpool_worker.providers.unpacking import NotTaken, Unpacked
from support.connect_proxy import ConnectProxy
from support.foreign_formats import DIMS, ForeignProvider
from support.http_server import Response
from support.tls import TlsFiles, make_tls_files
from support.vectors import vector_of

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXTS: Final = ["alpha", "beta"]
SAGEMAKER: Final = {
    "model": "sagemaker/endpoint",
    "aws_access_key_id": "AKIAEXAMPLE",
    "aws_secret_access_key": "example",
    "aws_region_name": "us-east-1",
}
EXPECTED: Final = [vector_of(text, DIMS) for text in TEXTS]
HEX: Final = b"".join(EXPECTED).hex()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return make_tls_files(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def secure(tls: TlsFiles) -> Iterator[ForeignProvider]:
    with ForeignProvider.in_thread(tls) as provider:
        yield provider


@pytest.fixture
def plain() -> Iterator[ForeignProvider]:
    with ForeignProvider.in_thread() as provider:
        yield provider


def through_wire(api_base: str, options: HttpOptions) -> ProviderAnswer:
    where = Deployment(
        id="d",
        provider="openai_like",
        upstream_model="m",
        adapter=Adapter.OPENAI_WIRE,
        caps=Caps(max_items=64, max_item_tokens=8_191),
        api_base=api_base,
    )

    async def run() -> ProviderAnswer:
        wire = OpenAIWire(where, options)
        try:
            return await wire.embed(ProviderCall(model="m", inputs=TEXTS, secret="sk-1"))
        finally:
            await wire.close()

    return asyncio.run(run())


_IN_A_PROCESS: Final = """
import asyncio, json, sys

def heard(event, given):
    if event in {"socket.connect", "socket.getaddrinfo"}:
        where = given[1] if event == "socket.connect" else given
        if isinstance(where, tuple) and where[0] not in {"127.0.0.1", "::1", "localhost"}:
            print(event, where)

sys.addaudithook(heard)
from embedpool_shared.config.litellm_sections import LitellmParams, ModelInfo
from embedpool_shared.errors import ProviderError
from embedpool_worker.fleet.assembly import Order, assembled
from embedpool_worker.fleet.model_names import KnownModels, place_of
from embedpool_worker.providers.adapters import build
from embedpool_worker.providers.http_options import HttpOptions
from embedpool_worker.providers.port import ProviderCall

async def ask(said, options):
    known = KnownModels({}, {})
    params = LitellmParams.model_validate(said)
    place = place_of(params.model, known, has_address=True)
    order = Order(id="d", place=place, params=params, about=ModelInfo(), timeout_s=20.0)
    where = assembled(order, known, {}).deployment
    provider = build(where, HttpOptions(**options))
    secret = where.keys[0].secret if where.keys else None
    call = ProviderCall(model=where.upstream_model, inputs=["alpha", "beta"], secret=secret)
    try:
        answer = await provider.embed(call)
        print(b"".join(answer.vectors).hex())
    except ProviderError as error:
        print(type(error).__name__, error.message)
    await provider.close()

async def main(every, options):
    for one in every:
        await ask(one, options)

asyncio.run(main(*map(json.loads, sys.argv[1:])))
"""


def through_litellm(
    options: dict[str, Any], env: dict[str, str], *params: dict[str, str]
) -> list[str]:
    """Embed in a process of its own: LiteLLM's way out is settled once for a process."""
    done = subprocess.run(
        [sys.executable, "-c", _IN_A_PROCESS, json.dumps(params), json.dumps(options)],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.environ["PATH"], **env},
    )
    return done.stdout.splitlines()


def test_the_wire_goes_through_the_operators_tunnel_with_his_certificates(
    secure: ForeignProvider, tls: TlsFiles
) -> None:
    with ConnectProxy.in_thread(secure.port) as proxy:
        options = HttpOptions(proxy=proxy.url, ca_file=str(tls.ca))
        answer = through_wire("https://localhost:4433/plain/v1", options)

        assert list(answer.vectors) == EXPECTED
        assert proxy.tunnels == ["localhost:4433"]


@pytest.mark.parametrize("has_proxy", [True, False], ids=["proxy", "direct"])
def test_the_wire_trusts_nobody_the_operator_does_not(
    secure: ForeignProvider, has_proxy: bool
) -> None:
    with ConnectProxy.in_thread(secure.port) as proxy:
        options = HttpOptions(proxy=proxy.url if has_proxy else None)
        with pytest.raises(ProviderUnavailable):
            through_wire(f"https://localhost:{secure.port}/plain/v1", options)

    assert secure.requests == []


def test_litellm_and_the_sdks_beneath_it_go_through_the_same_tunnel(
    secure: ForeignProvider, tls: TlsFiles
) -> None:
    with ConnectProxy.in_thread(secure.port) as proxy:
        said = through_litellm(
            {"proxy": proxy.url, "ca_file": str(tls.ca)},
            {"AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": "https://localhost:4433"},
            {"model": "mistral/m", "api_base": "https://localhost:4434/plain/v1", "api_key": "s"},
            SAGEMAKER,
        )

        assert said == [HEX, HEX]
        assert proxy.tunnels == ["localhost:4434", "localhost:4433"]


def test_litellm_asks_nobody_but_the_provider_and_an_sdk_beneath_it_reads_no_proxy(
    plain: ForeignProvider,
) -> None:
    nowhere = "http://127.0.0.1:1"
    said = through_litellm(
        {},
        {
            "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": plain.url.replace("127.0.0.1", "localhost"),
            "HTTP_PROXY": nowhere,
            "http_proxy": nowhere,
        },
        SAGEMAKER,
    )

    assert said == [HEX]


def test_the_proxied_wire_follows_no_redirect_and_reads_no_more_than_its_cap(
    plain: ForeignProvider,
) -> None:
    with ConnectProxy.in_thread(plain.port) as proxy:
        plain.refusal = Response(b"", 307, {"location": "http://127.0.0.1/plain/v1/embeddings"})
        with pytest.raises(ProviderUnavailable):
            through_wire("http://provider.invalid/plain/v1", HttpOptions(proxy=proxy.url))
        plain.refusal = Response(b" " * 100_000)
        options = HttpOptions(proxy=proxy.url, max_answer_bytes=50_000)
        with pytest.raises(WrongAnswer, match="larger than 50000"):
            through_wire("http://provider.invalid/plain/v1", options)

    assert len(plain.requests) == 2


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("gzip", gzip.compress(bytes(20_000_000))), ("zstd", b"?"), ("gzip, br", b"?")],
)
def test_a_bomb_is_not_taken_at_litellms_border(
    plain: ForeignProvider, encoding: str, body: bytes
) -> None:
    plain.refusal = Response(body, headers={"content-encoding": encoding})

    sighting = across_the_border(plain.url, max_answer_bytes=1_000_000)

    assert sighting.unreadable is not None
    error = ours(ValueError("?"), sighting, now_unix_s=0.0)
    assert type(error) is WrongAnswer


def test_a_refusal_too_large_to_read_is_still_known_by_its_status(plain: ForeignProvider) -> None:
    plain.refusal = Response(b" " * 100_000, 429)

    sighting = across_the_border(plain.url, max_answer_bytes=50_000)

    assert (sighting.status, sighting.body, sighting.unreadable) == (429, b"", None)


def test_litellms_border_asks_for_no_compression_and_trusts_only_the_operators_authorities(
    plain: ForeignProvider, secure: ForeignProvider, tls: TlsFiles
) -> None:
    assert across_the_border(plain.url).status == 404
    assert plain.requests[0][0].headers["accept-encoding"] == "identity"
    assert across_the_border(secure.url).broken == "ConnectError"
    assert across_the_border(secure.url, ca_file=str(tls.ca)).status == 404


def across_the_border(url: str, **options: Any) -> Sighting:
    async def run() -> Sighting:
        async with Border(HttpOptions(**options)).client(5.0) as client:
            with watched() as sighting, suppress(httpx.ReadError):
                await client.post(url, json={}, headers={"accept-encoding": "zstd, br"})
            return sighting

    return asyncio.run(run())


def test_what_is_compressed_all_the_same_is_read_up_to_the_cap() -> None:
    for encoding, pack in (("gzip", gzip.compress), ("deflate", zlib.compress)):
        body = Unpacked(encoding, max_bytes=1_000)
        for byte in pack(b"x" * 1_000):
            body.add(bytes([byte]))
        assert body.whole() == b"x" * 1_000
        too_much = Unpacked(encoding, max_bytes=999)
        with pytest.raises(NotTaken, match="larger than 999"):
            too_much.add(pack(b"x" * 1_000))


def test_what_cannot_be_unpacked_is_not_taken() -> None:
    with pytest.raises(NotTaken):
        Unpacked("zstd", max_bytes=10)
    with pytest.raises(NotTaken):
        Unpacked("gzip", max_bytes=10).add(b"no gzip")
    cut = Unpacked("gzip", max_bytes=100)
    cut.add(gzip.compress(b"x" * 50)[:-9])
    with pytest.raises(NotTaken):
        cut.whole()


def test_what_is_plain_passes_as_it_is() -> None:
    body = Unpacked("Identity", max_bytes=4)
    body.add(b"ab")
    body.add(b"cd")

    assert body.whole() == b"abcd"
    with pytest.raises(NotTaken):
        body.add(b"e")


def test_a_ca_file_and_a_proxy_are_told_in_the_sdks_words(tls: TlsFiles) -> None:
    told = sdk_environment(HttpOptions(proxy="http://p:1", ca_file=str(tls.ca)))

    assert (told["HTTPS_PROXY"], told["https_proxy"]) == ("http://p:1", "http://p:1")
    bundle = Path(told["AWS_CA_BUNDLE"]).read_bytes()
    assert tls.ca.read_bytes() in bundle
    assert bundle.count(b"BEGIN CERTIFICATE") > 50
    assert sdk_environment(HttpOptions()) == {"NO_PROXY": "*", "no_proxy": "*"}
    Path(told["AWS_CA_BUNDLE"]).unlink()
