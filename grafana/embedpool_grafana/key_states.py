"""The state of a provider key as one number, which a panel can name and colour."""

from __future__ import annotations

from typing import Final

from embedpool_grafana.panels import BAD, GOOD, WORSE, States
from embedpool_grafana.queries import most

BY_KEY: Final = "provider, key"
STATES: Final = States(
    words={
        "0": ("ready", GOOD),
        "1": ("cooling", WORSE),
        "2": ("open", WORSE),
        "3": ("retired", BAD),
    },
    steps=((None, GOOD), (1, WORSE), (3, BAD)),
)


def key_states(*matchers: str) -> str:
    """Say which of `STATES` each key is in: of the three that matter, it is in one at most."""
    numbered = ((number, f'state="{name}"') for number, (name, _) in STATES.words.items())
    return " + ".join(
        f"{number} * {most('key_state', *matchers, state, by=BY_KEY)}"
        for number, state in numbered
        if number != "0"
    )
