"""Keys and spend: the health of each provider key, and who spends what."""

from __future__ import annotations

from typing import Final

from embedpool_grafana.boards import Board, Chooser, Row
from embedpool_grafana.key_states import BY_KEY, STATES, key_states
from embedpool_grafana.panels import Text, figure, lines, rows, timeline
from embedpool_grafana.queries import Query, amount, least, most, now, quantile, rate, share

_PROVIDER: Final = 'provider=~"$provider"'
_TEAM: Final = 'team=~"$team"'
_KEYS: Final = Row(
    "Keys",
    (
        timeline(
            Text(
                "State of each key",
                "Ready; cooling after a 429 or without money, until the provider's own time; open "
                "after failures in a row; retired after a 401 or 403.",
                "short",
                span=12,
                height=10,
            ),
            Query(key_states(_PROVIDER), "{{provider}} {{key}}"),
            words=STATES.words,
        ),
        rows(
            Text(
                "Keys now",
                "Calls in flight of the slots a key has, what is left of its limits for this "
                "minute, and the time until it is usable again.",
                "short",
                span=12,
                height=10,
            ),
            Query(now("key_in_flight", _PROVIDER, by=BY_KEY)),
            Query(now("key_slots", _PROVIDER, by=BY_KEY)),
            Query(least("key_headroom_ratio", _PROVIDER, 'limit="requests"', by=BY_KEY)),
            Query(least("key_headroom_ratio", _PROVIDER, 'limit="tokens"', by=BY_KEY)),
            Query(most("key_cooling_seconds", _PROVIDER, by=BY_KEY)),
            renamed={
                "provider": "Provider",
                "key": "Key",
                "Value #A": "In flight",
                "Value #B": "Slots",
                "Value #C": "Requests left",
                "Value #D": "Tokens left",
                "Value #E": "Rests for",
            },
            units={"Requests left": "percentunit", "Tokens left": "percentunit", "Rests for": "s"},
        ),
        lines(
            Text(
                "Headroom",
                "Share of its limits of this minute that a key has left. Steadily near 0: the key "
                "is the bottleneck.",
                "percentunit",
            ),
            Query(
                least("key_headroom_ratio", _PROVIDER, by="provider, key, limit"),
                "{{provider}} {{key}} {{limit}}",
            ),
        ),
        lines(
            Text(
                "Slots in use",
                "Calls in flight with a key, of those it may have. Slots halve after a 429 or a "
                "timeout and recover by themselves.",
                "percentunit",
            ),
            Query(
                share(
                    now("key_in_flight", _PROVIDER, by=BY_KEY),
                    now("key_slots", _PROVIDER, by=BY_KEY),
                ),
                "{{provider}} {{key}}",
            ),
        ),
        lines(
            Text(
                "Rests",
                "Time until a key is usable again; it counts down.",
                "s",
            ),
            Query(most("key_cooling_seconds", _PROVIDER, by=BY_KEY), "{{provider}} {{key}}"),
        ),
    ),
)

_PROVIDERS: Final = Row(
    "Providers",
    (
        lines(
            Text("Calls by outcome", "Provider calls by how they ended.", "ops", span=6),
            Query(
                rate("calls_total", _PROVIDER, by="provider, outcome"), "{{provider}} {{outcome}}"
            ),
            stacked=True,
        ),
        lines(
            Text("Call latency", "One provider call, by deployment.", "s", span=6),
            Query(quantile(0.5, "call_seconds", _PROVIDER, by="deployment"), "p50 {{deployment}}"),
            Query(quantile(0.9, "call_seconds", _PROVIDER, by="deployment"), "p90 {{deployment}}"),
        ),
        lines(
            Text("Calls in flight", "Provider calls in flight, of all workers.", "short", span=6),
            Query(now("calls_in_flight", _PROVIDER, by="provider"), "{{provider}}"),
            stacked=True,
        ),
        lines(
            Text(
                "Retries by reason",
                "Further tries of calls, and those that the retry budget forbade.",
                "ops",
                span=6,
            ),
            Query(rate("retries_total", _PROVIDER, by="provider, why"), "{{provider}} {{why}}"),
            Query(
                rate("retries_refused_total", _PROVIDER, by="provider"), "{{provider}} forbidden"
            ),
        ),
    ),
)

_SPEND: Final = Row(
    "Spend and tokens",
    (
        figure(
            Text(
                "Charged",
                "US dollars charged to callers in the chosen time.",
                "currencyUSD",
                span=4,
            ),
            Query(amount("spend_usd_total", _TEAM)),
        ),
        lines(
            Text(
                "Spend by model", "US dollars an hour charged to callers.", "currencyUSD", span=10
            ),
            Query(f"3600 * {rate('spend_usd_total', _TEAM, by='model')}", "{{model}}"),
            stacked=True,
        ),
        lines(
            Text(
                "Spend by team",
                "US dollars an hour. Callers without a team are -, teams beyond the first 200 "
                "are other.",
                "currencyUSD",
                span=10,
            ),
            Query(f"3600 * {rate('spend_usd_total', _TEAM, by='team')}", "{{team}}"),
            stacked=True,
        ),
        lines(
            Text(
                "Tokens: the four columns",
                "Used is what callers were told, paid what providers reported, saved was used and "
                "never paid, waste was paid and not used. Used and waste equal paid and saved.",
                "short",
            ),
            Query(rate("tokens_total", _TEAM), "used"),
            Query(rate("provider_tokens_total", _PROVIDER), "paid"),
            Query(rate("saved_tokens_total"), "saved"),
            Query(rate("waste_tokens_total"), "waste"),
        ),
        lines(
            Text(
                "Waste by reason",
                "Tokens a second that were paid and reached nobody.",
                "short",
            ),
            Query(rate("waste_tokens_total", by="reason"), "{{reason}}"),
            stacked=True,
        ),
        lines(
            Text(
                "Cache hits",
                "Share of items answered from the vector cache; no value where it is off.",
                "percentunit",
            ),
            Query(
                share(
                    rate("cache_items_total", 'outcome="hit"', by="model"),
                    rate("cache_items_total", by="model"),
                ),
                "{{model}}",
            ),
        ),
    ),
)

_ADMISSION: Final = Row(
    "Admission",
    (
        lines(
            Text(
                "Refused for a limit",
                "Requests refused for a key's, team's or user's own limits and budgets: 429.",
                "reqps",
                span=12,
            ),
            Query(
                rate("refusals_total", 'reason=~"rpm|tpm|parallel|budget"', by="reason"),
                "{{reason}}",
            ),
            stacked=True,
        ),
        lines(
            Text(
                "Refused for any other reason",
                "Bad credentials, unknown models, invalid or too large requests, and a pool that "
                "could not take them.",
                "reqps",
                span=12,
            ),
            Query(
                rate("refusals_total", 'reason!~"rpm|tpm|parallel|budget"', by="reason"),
                "{{reason}}",
            ),
            stacked=True,
        ),
    ),
)

KEYS_AND_SPEND: Final = Board(
    uid="embedpool-keys-and-spend",
    title="embedpool / Keys and spend",
    description="The health of each provider key, and who spends what.",
    rows=(_KEYS, _PROVIDERS, _SPEND, _ADMISSION),
    choosers=(
        Chooser("provider", "Provider", "embedpool_key_state"),
        Chooser("team", "Team", "embedpool_tokens_total"),
    ),
)
