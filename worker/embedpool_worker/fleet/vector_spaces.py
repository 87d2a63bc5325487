"""Whether deployments of one group answer with vectors of one space. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from embedpool_shared.catalog import same_name
from embedpool_shared.errors import ConfigInvalid

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class VectorSpace:
    """What is known about the vectors of one deployment."""

    deployment: str
    dimensions: int | None  # of an answer to a request that names no size
    model: str  # the base model where it is known, else the provider's own name
    is_proven: bool  # whether `model` is known to name the model behind the deployment


def model_family(name: str) -> str:
    """Fold what different providers write differently about the same model."""
    return same_name(name.rpartition("/")[2].removesuffix("-v2"))


def doubt_about(group: str, spaces: Sequence[VectorSpace]) -> str | None:
    """Say why it is unknown whether the spaces are one; None when they are alike.

    Raises `ConfigInvalid` where they are proven different: a caller would get vectors that cannot
    be compared with each other.
    """
    doubtful: dict[str, None] = {}
    for first, other in combinations(spaces, 2):
        if first.dimensions and other.dimensions and first.dimensions != other.dimensions:
            raise ConfigInvalid(
                f"model_name {group}: {first.deployment} has {first.dimensions} dimensions and "
                f"{other.deployment} has {other.dimensions}; give them different model_names"
            )
        if model_family(first.model) == model_family(other.model):
            continue
        if first.is_proven and other.is_proven:
            raise ConfigInvalid(
                f"model_name {group}: {first.deployment} is {first.model} and "
                f"{other.deployment} is {other.model}, whose vectors cannot be compared; give "
                "them different model_names"
            )
        doubtful |= dict.fromkeys((first.deployment, other.deployment))
    if not doubtful:
        return None
    return (
        f"nobody knows whether {', '.join(doubtful)} embed into the same space: say so with "
        "model_info.base_model; only the vectors' length is checked"
    )
