"""What becomes of LiteLLM's fields that embedpool does not have. Pure.

An empty field asks for nothing. A field that would restrict somebody is refused, never dropped:
whoever sends it would take the restriction for granted. What merely decorates is ignored.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any, Final

from embedpool_shared.errors import BadRequest

HARMLESS: Final = frozenset(
    {
        "admins",
        "auto_create_key",
        "budget_fallbacks",
        "created_by",
        "default_estimated_output_tokens",
        "default_estimated_output_tokens_per_model",
        "disable_global_guardrails",
        "enable_prompt_caching",
        "litellm_changed_by",
        "members",
        "members_with_roles",
        "organizations",
        "password",
        "router_settings",
        "secret_manager_settings",
        "send_invite_email",
        "sso_user_id",
        "team_member_permissions",
        "teams",
        "throttle_on_budget_exceeded",
        "updated_by",
        "user_role",
    }
)
"""Fields whose loss grants nobody anything."""
RESTRICTIONS: Final = frozenset(
    {
        "access_group_ids",
        "agent_id",
        "aliases",
        "allowed_cache_controls",
        "allowed_passthrough_routes",
        "allowed_routes",
        "allowed_vector_store_indexes",
        "auto_rotate",
        "budget_id",
        "budget_limits",
        "config",
        "default_team_member_models",
        "denied_passthrough_routes",
        "end_user_budget_id",
        "enforced_batch_output_expires_after",
        "enforced_file_expires_after",
        "enforced_params",
        "grace_period",
        "guardrails",
        "key_type",
        "mcp_rpm_limit",
        "model_aliases",
        "model_max_budget",
        "model_rpm_limit",
        "model_tpm_limit",
        "new_master_key",
        "object_permission",
        "organization_id",
        "permissions",
        "policies",
        "project_id",
        "prompts",
        "rotation_interval",
        "rpm_limit_type",
        "spend",
        "tag_rpm_limit",
        "team_member_budget",
        "team_member_budget_duration",
        "team_member_key_duration",
        "team_member_rpm_limit",
        "team_member_tpm_limit",
        "temp_budget_expiry",
        "temp_budget_increase",
        "tpd_limit",
        "tpm_limit_type",
    }
)
"""Fields that would restrict or change what is asked for, and that nothing here can keep."""
NEUTRAL: Final[Mapping[str, frozenset[str]]] = {"key_type": frozenset({"default", "llm_api"})}
"""Words that ask for what holds here anyway."""


def refuse_foreign(
    given: Mapping[str, Any], ours: Collection[str], *, idle: Collection[str] = ()
) -> None:
    """Raise `BadRequest` naming the first field that asks for what embedpool cannot do.

    `ours` are the fields this route knows; those in `idle` change nothing here, and are ignored.
    """
    for name, value in given.items():
        if name in ours or name in HARMLESS or _is_empty(value) or name in idle:
            continue
        if isinstance(value, str) and value in NEUTRAL.get(name, ()):
            continue
        if name in RESTRICTIONS:
            raise BadRequest(
                f"`{name}` is LiteLLM's and embedpool cannot keep to it; leave it out or empty",
                param=name,
            )
        raise BadRequest(_unknown(name, ours), param=name[:64])


def _is_empty(value: Any) -> bool:
    """Whether a value says nothing, as Terraform's providers write what nobody set."""
    if isinstance(value, dict):
        return all(map(_is_empty, value.values()))
    return value is None or value is False or value in ("", 0, [])


def _unknown(name: str, ours: Collection[str]) -> str:
    near = get_close_matches(name[:64], sorted(ours), n=1)
    hint = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(sorted(ours))}"
    return f"`{name[:64]}` is not known here; {hint}"
