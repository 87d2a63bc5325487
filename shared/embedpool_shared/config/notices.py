"""What a configuration says that is not used, and why. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from pydantic import AliasChoices, BaseModel

from embedpool_shared.config.litellm_sections import ModelEntry, Theirs, is_option

if TYPE_CHECKING:
    from embedpool_shared.config.settings import Config

NEAR: Final = 0.8
"""How alike two names must be for one to be taken for a misspelling of the other."""


class NoticeKind(StrEnum):
    """How much a notice matters."""

    IGNORED = "ignored"  # accepted, without effect
    WARNING = "warning"  # has an effect the operator may not want


@dataclass(frozen=True, slots=True)
class Notice:
    """One remark about the configuration; never holds a value that could be secret."""

    kind: NoticeKind
    path: str
    reason: str


FALLBACK_NAMES: Final = (
    "fallbacks",
    "default_fallbacks",
    "context_window_fallbacks",
    "content_policy_fallbacks",
)
OTHER_VECTORS: Final = (
    "another model's vectors cannot stand in for this one's; a failing deployment is replaced by "
    "others of the same model_name"
)
NOT_USED: Final = "not used here"
_KEYS_OWN: Final = "limits and models belong to keys, teams and users: say them when making those"
_ONE_PRICE: Final = "embeddings are paid by the input token: input_cost_per_token"
_ALERTS: Final = "alerts are made from the metrics, by Prometheus"
_BUDGETS: Final = "budgets are those of keys, teams and users"
_FREE_FIRST: Final = "the key that is free first gets the call"
_IN_ROUTER: Final = "say it in router_settings"
_SHOWN: Final = "what happens shows in the metrics, the log and /spend/logs"
_WHO_ASKS: Final = "only the master key and virtual keys are asked for"
_OUR_REDIS: Final = "the queue's Redis is redis.url"
REASONS: Final[Mapping[str, str]] = {
    "access_groups": "keys, teams and users name models, or patterns like openai/*",
    "alerting": _ALERTS,
    "alerting_threshold": _ALERTS,
    "alert_types": _ALERTS,
    "allowed_fails": _IN_ROUTER,
    "callbacks": _SHOWN,
    "cooldown_time": _IN_ROUTER,
    "database_url": "keys and spend live in Redis",
    "default_internal_user_params": _KEYS_OWN,
    "default_key_generate_params": _KEYS_OWN,
    "default_team_params": _KEYS_OWN,
    "default_team_settings": _KEYS_OWN,
    "enable_tag_filtering": "tags are counted in spend, and choose no deployment",
    "failure_callback": _SHOWN,
    "guardrails": "texts are embedded as they come",
    "itpm": "the limit of a key is tpm",
    "max_output_tokens": "an embedding has no output tokens",
    "max_parallel_requests": "calls in flight are bounded by pool.slots_per_key",
    "mcp_servers": "only embeddings are served",
    "order": _FREE_FIRST,
    "otpm": "an embedding has no output tokens",
    "redis_host": _OUR_REDIS,
    "redis_password": _OUR_REDIS,
    "redis_port": _OUR_REDIS,
    "redis_url": _OUR_REDIS,
    "retry_policy": "what is tried again follows from the provider's error; how often: num_retries",
    "routing_strategy": _FREE_FIRST,
    "service_callback": _SHOWN,
    "store_model_in_db": "models come from this file only",
    "success_callback": _SHOWN,
    "tags": "tags are counted in spend, and choose no deployment",
    "vector_store_registry": "only embeddings are served",
    "weight": _FREE_FIRST,
}
RESTRICTIONS: Final[Mapping[str, str]] = {
    "allowed_ips": "every address may call: bound that in front of the pool",
    "allowed_routes": "a key may use every route",
    "custom_auth": _WHO_ASKS,
    "enable_jwt_auth": _WHO_ASKS,
    "enforce_user_param": "a request may leave out `user`",
    "enforced_params": "a request may leave them out",
    "global_max_parallel_requests": "limits are those of keys, teams and users",
    "max_budget": _BUDGETS,
    "max_end_user_budget": "an end user has no budget",
    "max_internal_user_budget": _BUDGETS,
    "provider_budget_config": "a provider has no budget",
    "team_id": "every key without a list of models may use it: say models when making keys",
    "upperbound_key_generate_params": "whoever has the master key makes keys as they like",
}
"""What would be forbidden by LiteLLM and is not here, so that it is warned of."""
_OTHER_PRICE: Final = re.compile(
    r"output_\w*cost\w*|input_\w*cost_per_(?!tok)\w+|input_\w+_(token_\w+|cost_per_token)"
    r"|\w+_input_token_cost\w*"
)


def ignored(path: str, reason: str) -> Notice:
    """Say that the setting at `path` has no effect."""
    return Notice(NoticeKind.IGNORED, path, reason)


def warning(path: str, reason: str) -> Notice:
    """Say what the setting at `path` leads to."""
    return Notice(NoticeKind.WARNING, path, reason)


def suggestion(name: str, known: Iterable[str]) -> str:
    """Name the known setting that `name` misspells, as the end of a sentence; else nothing."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=NEAR)
    return f"; did you mean {near[0]}?" if near else ""


def known_names(model: type[BaseModel]) -> frozenset[str]:
    """Every name a section's settings may have in the file."""
    names = set(model.model_fields)
    for field in model.model_fields.values():
        if isinstance(field.validation_alias, AliasChoices):
            names.update(str(choice) for choice in field.validation_alias.choices)
    return frozenset(names)


def unused_in_sections(config: Config) -> Iterator[Notice]:
    """List the settings of LiteLLM's sections that have no effect here."""
    for section in ("litellm_settings", "router_settings", "general_settings"):
        settings: Theirs = getattr(config, section)
        yield from _fallbacks(section, settings.model_extra or {})
        yield from _unused(section, settings)
    yield from _unused("litellm_settings.cache_params", config.litellm_settings.cache_params)


def unused_in_entry(position: int, entry: ModelEntry) -> Iterator[Notice]:
    """List the settings of one model_list entry that have no effect here."""
    path = f"model_list[{position}]"
    yield from _fallbacks(f"{path}.litellm_params", entry.litellm_params.model_extra or {})
    yield from _unused(f"{path}.litellm_params", entry.litellm_params)
    yield from _unused(f"{path}.model_info", entry.model_info)


def _unused(path: str, settings: Theirs) -> Iterator[Notice]:
    known = known_names(type(settings))
    for name, value in (settings.model_extra or {}).items():
        if is_option(name):
            if isinstance(value, list):
                yield warning(f"{path}.{name}", "not used: a list; write one entry for each")
        elif name in RESTRICTIONS:
            if value:
                yield warning(f"{path}.{name}", f"not kept to: {RESTRICTIONS[name]}")
        elif name not in FALLBACK_NAMES:
            yield ignored(f"{path}.{name}", _reason(name, known))


def _reason(name: str, known: frozenset[str]) -> str:
    if _OTHER_PRICE.fullmatch(name):
        return _ONE_PRICE
    return REASONS.get(name) or NOT_USED + suggestion(name, known)


def _fallbacks(section: str, settings: Mapping[str, object]) -> Iterator[Notice]:
    for name in FALLBACK_NAMES:
        if name in settings:
            routes = "".join(f" {route}" for route in _routes(settings[name]))
            yield ignored(f"{section}.{name}{routes}", OTHER_VECTORS)


def _routes(fallbacks: object) -> Iterator[str]:
    for route in fallbacks if isinstance(fallbacks, list) else []:
        if isinstance(route, Mapping):
            for model, others in route.items():
                names = others if isinstance(others, list) else [others]
                yield f"{model}→{','.join(n for n in names if isinstance(n, str))}"
        elif isinstance(route, str):
            yield route
