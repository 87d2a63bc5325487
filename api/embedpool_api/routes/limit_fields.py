"""The limits of a key, a team or a user, as LiteLLM names them."""

from typing import Any, Final

import msgspec
from pydantic import Field

from embedpool_api.accounts.durations import budget_duration, budget_every, next_reset
from embedpool_api.accounts.kept import Kept, R
from embedpool_api.accounts.money import in_dollars, pico_usd
from embedpool_api.routes.bodies import AdminBody, Count, Dollars, Words
from embedpool_shared.accounts import Limits


class LimitFields(AdminBody):
    """What bounds an account; null is no limit, absent is as before."""

    tpm_limit: Count | None = Field(None, description="Tokens a minute.")
    rpm_limit: Count | None = Field(None, description="Requests a minute.")
    max_parallel_requests: Count | None = Field(None, description="Requests at the same time.")
    max_budget: Dollars | None = Field(None, description="Dollars.", examples=[25.0])
    budget_duration: Words = Field(
        None, description="How often the budget begins anew.", examples=["30d", "1mo"]
    )

    def limits(self, before: Limits) -> Limits:
        """Apply what was given to the limits before; raises `BadRequest`."""
        given: dict[str, Any] = {
            ours: getattr(self, theirs)
            for theirs, ours in _SAME.items()
            if theirs in self.model_fields_set
        }
        if "max_budget" in self.model_fields_set:
            budget = self.max_budget
            given["budget_pico_usd"] = None if budget is None else pico_usd(budget)
        if "budget_duration" in self.model_fields_set:
            every = self.budget_duration
            given["budget_every"] = None if every is None else budget_every(every)
            given["budget_duration"] = every
        return msgspec.structs.replace(before, **given)


_SAME: Final = {
    "tpm_limit": "tpm",
    "rpm_limit": "rpm",
    "max_parallel_requests": "parallel",
}


def shown_limits(kept: Kept[R]) -> dict[str, Any]:
    """Show an account's limits and what was spent of them."""
    limits, spent, reset_at = kept.record.limits, kept.spent, kept.reset_at
    period_cost = spent.period_cost_pico_usd
    if limits.budget_every is not None and reset_at is not None:
        period_cost = 0 if reset_at <= kept.read_at else period_cost
        reset_at = next_reset(limits.budget_every, reset_at, now_s=kept.read_at)
    budget = limits.budget_pico_usd
    return {
        "tpm_limit": limits.tpm,
        "rpm_limit": limits.rpm,
        "max_parallel_requests": limits.parallel,
        "max_budget": None if budget is None else in_dollars(budget),
        "budget_duration": limits.budget_duration or budget_duration(limits.budget_every),
        "budget_reset_at": None if reset_at is None else float(reset_at),
        "spend": in_dollars(spent.cost_pico_usd),
        "budget_spend": in_dollars(period_cost),
        "total_tokens": spent.used,
        "requests": spent.requests,
    }
