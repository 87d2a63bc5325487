from __future__ import annotations

import subprocess
import sys

import orjson
import pytest

from embedpool_worker.providers.price_map import entries_from, price_map


def test_a_price_is_exact_to_the_pico_dollar() -> None:
    blob = b"""{
        "m": {"mode": "embedding", "litellm_provider": "openai", "max_input_tokens": 8191,
              "output_vector_size": 1536, "input_cost_per_token": 2e-08},
        "odd": {"mode": "embedding", "litellm_provider": "x", "input_cost_per_token": 1.35e-07}
    }"""

    entries = entries_from(blob)

    assert entries["m"].input_cost_per_token_pico_usd == 20_000
    assert (entries["m"].max_input_tokens, entries["m"].output_vector_size) == (8_191, 1_536)
    assert entries["odd"].input_cost_per_token_pico_usd == 135_000


def test_other_modes_and_unreadable_entries_are_left_out() -> None:
    blob = orjson.dumps(
        {
            "chat": {"mode": "chat", "note": "no embedding"},
            "broken": {"mode": "embedding", "output_vector_size": "many"},
            "ours": {"mode": "embedding", "litellm_provider": "vertex_ai-embedding-models"},
        }
    )

    entries = entries_from(blob)

    assert list(entries) == ["ours"]
    assert entries["ours"].provider == "vertex_ai"


def test_the_installed_map_is_read_without_importing_litellm() -> None:
    pytest.importorskip("importlib.metadata").version("litellm")
    code = (
        "import sys; from embedpool_worker.providers.price_map import price_map;"
        "print(len(price_map()), 'litellm' in sys.modules)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )

    count, was_imported = done.stdout.split()
    assert int(count) > 50
    assert was_imported == "False"


def test_openais_small_model_has_its_size_and_price() -> None:
    small = price_map()["text-embedding-3-small"]

    assert (small.provider, small.output_vector_size) == ("openai", 1_536)
    assert small.input_cost_per_token_pico_usd == 20_000
