"""Fleets for tests, from YAML text and a small price map."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from embedpool_shared.config.file import LoadedConfig, load_config
from embedpool_worker.fleet.groups import Fleet, build_fleet
from embedpool_worker.fleet.model_names import KnownModels
from embedpool_worker.providers.price_map import PriceEntry


def entry(model: str, provider: str, dims: int | None = None, pico_usd: int = 0) -> PriceEntry:
    return PriceEntry(
        model=model,
        provider=provider,
        output_vector_size=dims,
        input_cost_per_token_pico_usd=pico_usd,
    )


KNOWN = KnownModels(
    {
        one.model: one
        for one in (
            entry("text-embedding-3-small", "openai", 1_536, 20_000),
            entry("text-embedding-3-large", "openai", 3_072, 130_000),
            entry("text-embedding-ada-002", "openai", 1_536, 100_000),
            entry("azure/text-embedding-3-small", "azure", None, 22_000),
            entry("embed-english-v3.0", "cohere", None, 100_000),
            entry("cohere/embed-v4.0", "cohere", 1_536, 120_000),
            entry("amazon.titan-embed-text-v1", "bedrock", 1_536, 100_000),
            entry("amazon.titan-embed-text-v2:0", "bedrock", 1_024, 20_000),
        )
    },
    {"gpt-4o": "chat", "azure/gpt-4": "chat", "whisper-1": "audio_transcription"},
)


def loaded(text: str | None, **environ: str) -> LoadedConfig:
    if text is None:
        return load_config(None, environ)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "config.yaml"
        file.write_text(text)
        return load_config(file, environ)


def fleet_of(text: str | None, **environ: str) -> Fleet:
    return build_fleet(loaded(text, **environ), KNOWN, environ)


def one_model(model: str, *more: str, info: str = "", name: str = "m") -> str:
    params = ", ".join((f"model: '{model}'", *more))
    return (
        f"model_list: [{{model_name: '{name}', litellm_params: {{{params}}}, "
        f"model_info: {{{info}}}}}]\ngeneral_settings: {{master_key: sk-a-good-master-key}}"
    )
