from __future__ import annotations

import json
import shlex

from embedpool_cli.ready import ready_text

URL = "http://127.0.0.1:4000"


def curl_of(text: str) -> list[str]:
    return shlex.split(text.partition("try: ")[2])


def body_of(text: str) -> dict[str, str]:
    arguments = curl_of(text)
    return dict(json.loads(arguments[arguments.index("-d") + 1]))


def test_one_line_says_where_and_what() -> None:
    (line,) = ready_text(URL, ["wordllama", "openai/*"], needs_key=False).splitlines()

    assert line.startswith(f"embedpool serves wordllama, openai/* at {URL} ")


def test_it_ends_with_a_curl_for_the_first_model_with_a_name() -> None:
    text = ready_text(URL, ["openai/*", "small"], needs_key=False)

    assert curl_of(text)[:2] == ["curl", f"{URL}/v1/embeddings"]
    assert body_of(text)["model"] == "small"


def test_of_many_models_a_handful_is_named() -> None:
    line = ready_text(URL, [f"m{n}" for n in range(12)], needs_key=False)

    assert "m4 and 7 more" in line
    assert "m5" not in line


def test_with_patterns_only_the_model_is_left_to_the_reader() -> None:
    assert body_of(ready_text(URL, ["openai/*"], needs_key=False))["model"] == "MODEL"


def test_no_model_at_all_is_said() -> None:
    assert "no model yet" in ready_text(URL, [], needs_key=False)


def test_with_a_master_key_the_curl_reads_it_from_the_environment() -> None:
    assert "Authorization: Bearer $EMBEDPOOL_MASTER_KEY" in curl_of(
        ready_text(URL, ["m"], needs_key=True)
    )


def test_without_one_it_sends_none() -> None:
    assert "Authorization" not in ready_text(URL, ["m"], needs_key=False)


def test_a_name_a_shell_would_trip_over_survives_pasting() -> None:
    name = 'it\'s $HOME "quoted" `here`'

    assert body_of(ready_text(URL, [name], needs_key=False))["model"] == name
