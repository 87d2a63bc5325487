"""The fake provider keeps its word: right vectors when it behaves, else the fault asked for."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import openai
import pytest

from support.fake_provider import FakeProvider
from support.faults import Behaviour, Distortion, Ending
from support.orphans import dying_with_us
from support.processes import ROOT, wait_until
from support.vectors import token_count, vector_of

if TYPE_CHECKING:
    from collections.abc import Iterator

DIMS = 24


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


def ask(
    fake: FakeProvider,
    given: object = "a",
    *,
    path: str = "/v1/embeddings",
    key: str = "sk-one",
    timeout_s: float = 5.0,
    **fields: object,
) -> Answer:
    body = json.dumps({"model": "m", "input": given, "dimensions": DIMS} | fields)
    return post(fake, path, body, {"authorization": f"Bearer {key}"}, timeout_s)


def post(
    fake: FakeProvider, path: str, body: str, headers: dict[str, str], timeout_s: float = 5.0
) -> Answer:
    address = fake.url.removeprefix("http://")
    connection = http.client.HTTPConnection(address, timeout=timeout_s)
    try:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()


def vectors_in(answer: Answer) -> list[bytes]:
    rows = answer.body["data"]
    return [bytes_of(row["embedding"]) for row in sorted(rows, key=lambda row: row["index"])]


def bytes_of(embedding: Any) -> bytes:
    if isinstance(embedding, str):
        return base64.b64decode(embedding, validate=True)
    return np.array(embedding, "<f4").tobytes()


@pytest.mark.parametrize("encoding", ["float", "base64"])
@pytest.mark.parametrize("dims", [1, 7, 12, 13, 24, 1_536])
def test_an_answer_holds_each_texts_own_vector(
    fake_provider: FakeProvider, encoding: str, dims: int
) -> None:
    texts = ["a", "bé", "日本 \U0001f600"]

    answer = ask(fake_provider, texts, encoding_format=encoding, dimensions=dims)

    assert vectors_in(answer) == [vector_of(text, dims, "m") for text in texts]
    assert answer.body["usage"]["prompt_tokens"] == sum(map(token_count, texts))
    assert [row["index"] for row in answer.body["data"]] == [0, 1, 2]


def test_the_openai_client_reads_it(fake_provider: FakeProvider) -> None:
    with openai.OpenAI(api_key="sk-one", base_url=fake_provider.api_base) as client:
        answer = client.embeddings.create(model="m", input=["a", "b"])

    got = [np.array(row.embedding, "<f4").tobytes() for row in answer.data]
    assert got == [vector_of(text, 1_536, "m") for text in "ab"]


def test_it_serves_on_a_tests_own_loop() -> None:
    async def main() -> list[float]:
        async with (
            FakeProvider() as fake,
            openai.AsyncOpenAI(api_key="sk-one", base_url=fake.api_base) as client,
        ):
            answer = await client.embeddings.create(model="m", input="a", dimensions=DIMS)
            return answer.data[0].embedding

    assert bytes_of(asyncio.run(main())) == vector_of("a", DIMS, "m")


def test_token_arrays_have_vectors_and_counts_of_their_own(fake_provider: FakeProvider) -> None:
    one, several = ask(fake_provider, [1, 2, 3]), ask(fake_provider, [[1, 2, 3], [4]])

    assert vectors_in(one) == [vector_of([1, 2, 3], DIMS, "m")]
    assert vectors_in(several) == [vector_of(ids, DIMS, "m") for ids in ([1, 2, 3], [4])]
    assert several.body["usage"]["total_tokens"] == 4


def test_an_azure_path_names_the_model(fake_provider: FakeProvider) -> None:
    path = "/openai/deployments/ours/embeddings?api-version=2024-02-01"
    body = json.dumps({"input": ["a"], "dimensions": DIMS})

    answer = post(fake_provider, path, body, {"api-key": "azure-key"})

    assert vectors_in(answer) == [vector_of("a", DIMS, "ours")]
    [call] = fake_provider.calls
    assert (call.key, call.model, call.path) == ("azure-key", "ours", path)


@pytest.mark.parametrize("path", ["/v1/embed", "/v2/embed"])
def test_cohere_answers_floats_by_type(fake_provider: FakeProvider, path: str) -> None:
    fields: dict[str, Any] = {
        "texts": ["a", "b"],
        "input_type": "search_document",
        "embedding_types": ["float"],
    }

    answer = ask(fake_provider, path=path, output_dimension=DIMS, **fields)

    got = [bytes_of(row) for row in answer.body["embeddings"]["float"]]
    assert got == [vector_of(text, DIMS, "m") for text in "ab"]
    assert answer.body["meta"]["billed_units"]["input_tokens"] == 2


def test_coheres_first_version_answers_a_bare_list_without_types(
    fake_provider: FakeProvider,
) -> None:
    fields: dict[str, Any] = {
        "texts": ["a"],
        "input_type": "search_query",
        "output_dimension": DIMS,
    }

    answer = ask(fake_provider, path="/v1/embed", **fields)

    assert [bytes_of(row) for row in answer.body["embeddings"]] == [vector_of("a", DIMS, "m")]


def test_the_short_way_writes_the_same_bytes_as_the_long_one() -> None:
    with FakeProvider.in_thread() as long, FakeProvider.in_thread(keep_calls=0) as short:
        for encoding in ("float", "base64"):
            for given in ("a", ["a"], ["a", "bé", "\n"]):
                bodies = [ask(one, given, encoding_format=encoding).raw for one in (long, short)]
                assert bodies[0] == bodies[1]

        assert short.totals == long.totals
        assert (len(short.calls), len(long.calls)) == (0, 6)


@pytest.mark.parametrize("given", [[], "", [""], [[]], ["a", 1], {"a": 1}, None, [1.5]])
def test_an_input_no_provider_takes_is_refused(fake_provider: FakeProvider, given: object) -> None:
    answer = ask(fake_provider, given)

    assert answer.status == 400
    assert answer.body["error"]["param"] == "input"
    assert fake_provider.totals.by_status == {400: 1}


def test_an_unknown_path_is_a_404_in_json(fake_provider: FakeProvider) -> None:
    assert ask(fake_provider, path="/v1/chat/completions").body["error"]["code"] == (
        "model_not_found"
    )


def test_calls_are_counted_with_their_texts_keys_and_fields(fake_provider: FakeProvider) -> None:
    ask(fake_provider, ["a", "b"], key="sk-one", user="u")
    ask(fake_provider, "c", key="sk-two")

    first, second = fake_provider.calls
    assert (first.items, first.key, first.fields["user"]) == (["a", "b"], "sk-one", "u")
    assert first.at <= second.at
    totals = fake_provider.totals
    assert (totals.calls, totals.items, totals.largest_call_items) == (2, 3, 2)
    assert totals.by_key == {"sk-one": 1, "sk-two": 1}


def test_what_is_forgotten_is_not_counted(fake_provider: FakeProvider) -> None:
    ask(fake_provider)

    fake_provider.forget()

    assert (fake_provider.totals.calls, fake_provider.calls) == (0, [])


def test_the_next_call_is_throttled_and_the_one_after_not(fake_provider: FakeProvider) -> None:
    fake_provider.behave(Behaviour(status=429, calls=1, headers={"retry-after": "3"}))

    throttled, answered = ask(fake_provider), ask(fake_provider)

    assert (throttled.status, throttled.headers["retry-after"]) == (429, "3")
    assert throttled.body["error"]["code"] == "rate_limit_exceeded"
    assert answered.status == 200
    assert [call.status for call in fake_provider.calls] == [429, 200]


def test_only_the_key_meant_is_rejected(fake_provider: FakeProvider) -> None:
    fake_provider.behave(Behaviour(status=401, key="sk-bad"))

    assert ask(fake_provider, key="sk-bad").body["error"]["code"] == "invalid_api_key"
    assert ask(fake_provider, key="sk-good").status == 200


def test_a_poisoned_text_spoils_its_call(fake_provider: FakeProvider) -> None:
    fake_provider.behave(
        Behaviour(status=400, text="exactly", message="no"),
        Behaviour(status=422, containing="pois"),
    )

    assert ask(fake_provider, ["a", "exactly"]).body["error"]["message"] == "no"
    assert ask(fake_provider, ["a", "a poison"]).status == 422
    assert ask(fake_provider, ["a", "not exactly"]).status == 200


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (Behaviour(max_items=2), "not be larger than 2"),
        (Behaviour(max_tokens=2), "Max is 2 got 3"),
        (Behaviour(max_item_tokens=0), "maximum context length is 0 tokens, however you requested"),
        (Behaviour(refuses_base64=True), "base64 is not supported"),
        (Behaviour(refuses_dimensions=True), "does not support specifying dimensions"),
    ],
    ids=["items", "tokens", "one item's tokens", "base64", "dimensions"],
)
def test_a_refused_call_says_why(
    fake_provider: FakeProvider, behaviour: Behaviour, words: str
) -> None:
    fake_provider.behave(behaviour)

    answer = ask(fake_provider, ["a", "b", "c"], encoding_format="base64")

    assert answer.status == 400
    assert words in answer.body["error"]["message"]


def test_a_call_within_the_caps_passes(fake_provider: FakeProvider) -> None:
    fake_provider.behave(Behaviour(max_items=2, max_tokens=2, max_item_tokens=1))

    assert ask(fake_provider, ["a", "b"]).status == 200


def test_base64_can_be_ignored(fake_provider: FakeProvider) -> None:
    fake_provider.behave(Behaviour(ignores_base64=True))

    [row] = ask(fake_provider, encoding_format="base64").body["data"]

    assert isinstance(row["embedding"], list)


@pytest.mark.parametrize(
    ("distortion", "indices"),
    [
        (Distortion.FEWER, [0, 1]),
        (Distortion.MORE, [0, 1, 2, 3]),
        (Distortion.PERMUTED, [2, 1, 0]),
        (Distortion.GAP, [0, 1, 3]),
        (Distortion.DUPLICATE_INDEX, [0, 0, 0]),
        (Distortion.NO_INDEX, [None, None, None]),
        (Distortion.FUSED, [0]),
    ],
)
def test_indices_are_wrong_as_told(
    fake_provider: FakeProvider, distortion: Distortion, indices: list[int | None]
) -> None:
    fake_provider.behave(Behaviour(distortion=distortion))

    rows = ask(fake_provider, ["a", "b", "c"]).body["data"]

    assert [row.get("index") for row in rows] == indices


def test_a_permuted_answer_is_right_by_its_indices(fake_provider: FakeProvider) -> None:
    fake_provider.behave(Behaviour(distortion=Distortion.PERMUTED))

    answer = ask(fake_provider, ["a", "b", "c"])

    assert vectors_in(answer) == [vector_of(text, DIMS, "m") for text in "abc"]


@pytest.mark.parametrize(
    ("distortion", "size_bytes"),
    [
        (Distortion.NAN, 4 * DIMS),
        (Distortion.INFINITE, 4 * DIMS),
        (Distortion.WRONG_LENGTH, 4 * DIMS - 4),
        (Distortion.RAGGED_BYTES, 4 * DIMS - 1),
        (Distortion.EMPTY_VECTOR, 0),
    ],
)
def test_only_the_last_vector_is_spoilt(
    fake_provider: FakeProvider, distortion: Distortion, size_bytes: int
) -> None:
    fake_provider.behave(Behaviour(distortion=distortion))

    first, last = vectors_in(ask(fake_provider, ["a", "b"], encoding_format="base64"))

    assert first == vector_of("a", DIMS, "m")
    assert len(last) == size_bytes
    assert last != vector_of("b", DIMS, "m")
    is_finite = bool(np.isfinite(np.frombuffer(last[: size_bytes // 4 * 4], "<f4")).all())
    assert is_finite == (distortion not in {Distortion.NAN, Distortion.INFINITE})


@pytest.mark.parametrize("distortion", [Distortion.TRUNCATED_JSON, Distortion.NOT_JSON])
def test_a_200_can_be_no_json(fake_provider: FakeProvider, distortion: Distortion) -> None:
    fake_provider.behave(Behaviour(distortion=distortion))

    answer = ask(fake_provider)

    assert answer.status == 200
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.raw)


def test_a_200_can_be_an_error_or_lack_its_usage(fake_provider: FakeProvider) -> None:
    fake_provider.behave(Behaviour(distortion=Distortion.ERROR_IN_200, message="oops"))
    error = ask(fake_provider)
    fake_provider.behave(Behaviour(distortion=Distortion.NO_USAGE))
    bare = ask(fake_provider)

    assert (error.status, error.body["error"]["message"]) == (200, "oops")
    assert "usage" not in bare.body
    assert vectors_in(bare) == [vector_of("a", DIMS, "m")]


def test_an_answer_can_be_huge(fake_provider: FakeProvider) -> None:
    fake_provider.behave(Behaviour(padding_bytes=1_000_000))

    answer = ask(fake_provider)

    assert len(answer.raw) > 1_000_000
    assert vectors_in(answer) == [vector_of("a", DIMS, "m")]


def test_a_redirect_points_elsewhere(fake_provider: FakeProvider) -> None:
    there = {"location": "http://127.0.0.1:1/"}
    fake_provider.behave(Behaviour(status=307, headers=there, body=""))

    answer = ask(fake_provider)

    assert (answer.status, answer.headers["location"], answer.raw) == (307, there["location"], b"")


def test_a_reset_ends_the_connection_without_an_answer(fake_provider: FakeProvider) -> None:
    fake_provider.behave(Behaviour(ending=Ending.RESET))

    with pytest.raises(ConnectionResetError):
        ask(fake_provider)


def test_a_cut_answer_is_shorter_than_promised(fake_provider: FakeProvider) -> None:
    fake_provider.behave(Behaviour(ending=Ending.CUT))

    with pytest.raises(http.client.IncompleteRead):
        ask(fake_provider)


def test_a_trickled_answer_is_whole_in_the_end(fake_provider: FakeProvider) -> None:
    fake_provider.behave(Behaviour(ending=Ending.TRICKLE, trickle_bytes=100, trickle_pause_s=0.001))

    answer = ask(fake_provider)

    assert answer.headers["transfer-encoding"] == "chunked"
    assert vectors_in(answer) == [vector_of("a", DIMS, "m")]


def test_a_hanging_call_is_in_flight_until_the_client_leaves(fake_provider: FakeProvider) -> None:
    fake_provider.behave(Behaviour(ending=Ending.HANG))

    with pytest.raises(TimeoutError):
        ask(fake_provider, timeout_s=0.05)

    assert fake_provider.totals.calls == 1
    assert fake_provider.traffic.max_in_flight == 1
    wait_until(lambda: fake_provider.traffic.in_flight == 0, patience_s=5, what="the call's end")


def test_latencies_of_behaviours_add_up(fake_provider: FakeProvider) -> None:
    fake_provider.behave(
        Behaviour(latency_s=0.02, status=500), Behaviour(latency_per_text_s=0.01, status=400)
    )

    with pytest.raises(TimeoutError):
        ask(fake_provider, ["a"] * 1_000, timeout_s=0.1)
    answer = ask(fake_provider, ["a"])

    assert answer.status == 500  # the first behaviour with a say decides


def test_pipelined_requests_are_answered_in_order() -> None:
    with FakeProvider.in_thread(latency_s=0.005) as fake:
        address = fake.url.removeprefix("http://")
        connection = http.client.HTTPConnection(address, timeout=5)
        connection.connect()
        body = b'{"model":"m","input":"%b","dimensions":1}'
        head = b"POST /v1/embeddings HTTP/1.1\r\ncontent-length: %d\r\n\r\n"
        whole = b"".join(head % len(body % text) + body % text for text in (b"a", b"b"))
        half = len(whole) // 2 + 3
        connection.sock.sendall(whole[:half])
        connection.sock.sendall(whole[half:])
        received = b""
        while received.count(b'"usage"') < 2:
            received += connection.sock.recv(65_536)
        connection.close()

    assert [call.items for call in fake.calls] == [["a"], ["b"]]
    assert fake.traffic.max_in_flight == 1


@pytest.fixture
def standalone() -> Iterator[str]:
    command = dying_with_us([sys.executable, "-m", "support.fake_provider", "--dims", "8"])
    env = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip().removeprefix("http://")
        process.kill()


def test_a_standalone_fake_counts_behaves_and_forgets(standalone: str) -> None:
    connection = http.client.HTTPConnection(standalone, timeout=5)

    def send(method: str, path: str, body: object) -> Any:
        connection.request(method, path, json.dumps(body))
        return json.loads(connection.getresponse().read())

    send("POST", "/_behave", [{"status": 503, "calls": 1}])
    refused = send("POST", "/v1/embeddings", {"model": "m", "input": "a"})
    answered = send("POST", "/v1/embeddings", {"model": "m", "input": "a"})
    stats = send("GET", "/_stats", None)
    send("POST", "/_reset", None)
    forgotten = send("GET", "/_stats", None)
    misspelt = send("POST", "/_behave", [{"statsu": 503}])
    send("POST", "/_behave", [{"ending": "reset", "calls": 1}])
    with pytest.raises(ConnectionResetError):
        send("POST", "/v1/embeddings", {"model": "m", "input": "a"})
    connection.close()

    assert refused["error"]["type"] == "server_error"
    assert bytes_of(answered["data"][0]["embedding"]) == vector_of("a", 8, "m")
    assert stats["by_status"] == {"503": 1, "200": 1}
    assert forgotten["calls"] == 0
    assert "statsu" in misspelt["error"]
