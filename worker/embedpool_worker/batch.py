"""The items of one provider call, and what becomes of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from embedpool_shared.errors import ProviderError
from embedpool_shared.jobs import Input, LaneClass, MergeKey
from embedpool_worker.caps import Caps
from embedpool_worker.deployments import Deployment
from embedpool_worker.held import Item
from embedpool_worker.keyring import KeyHealth
from embedpool_worker.packing import InputKey, distinct
from embedpool_worker.providers.cap_words import CapKind


@dataclass(slots=True, eq=False)
class Batch:
    """The items of one call, where it may be made, and what became of it."""

    items: Sequence[Item]
    lane_class: LaneClass
    deployments: Sequence[Deployment]
    within: Batch | None = None  # the refused call that this is a part of
    merge: MergeKey = field(init=False)  # what its items have in common
    firsts: dict[InputKey, Item] = field(init=False)  # of each distinct input
    where: list[int] = field(init=False)  # the place of each item's input among those
    inputs: list[Input] = field(init=False)
    deadline_at: float = field(init=False)  # when the last of its callers stops listening
    asked: Deployment | None = None  # by the last try
    failure: ProviderError | None = None  # what came of that, unless it was answered
    failed_with: set[KeyHealth] = field(default_factory=set)  # another one is tried first
    refusal: ProviderError | None = None  # what came of it in the end
    was_answered: bool = False
    holds_refused_input: bool = False  # one of its inputs is refused even alone

    def __post_init__(self) -> None:
        """Find the distinct inputs."""
        self.merge = self.items[0].job.merge
        self.firsts, self.where = distinct(self.items)
        self.inputs = [item.input for item in self.firsts.values()]
        self.deadline_at = max([item.job.deadline_at for item in self.items])

    @property
    def provider(self) -> str:
        """Who was asked last; "" before anybody was."""
        return self.asked.provider if self.asked else ""

    @property
    def tokens(self) -> int:
        """How many tokens it sends, as estimated for packing."""
        return sum([item.tokens for item in self.firsts.values()])

    def fits(self, caps: Caps) -> bool:
        """Tell whether so much may travel in one call; a single input always may."""
        if len(self.firsts) == 1:
            return True
        return (
            len(self.firsts) <= caps.max_items
            and max([item.tokens for item in self.firsts.values()]) <= caps.max_item_tokens
            and (caps.max_call_tokens is None or self.tokens <= caps.max_call_tokens)
            and (
                caps.max_call_bytes is None or self.size(CapKind.CALL_BYTES) <= caps.max_call_bytes
            )
        )

    def refused_alone(self) -> None:
        """Note that the only input is refused, so that its calls' refusals are about it."""
        part: Batch | None = self
        while part is not None:
            part.holds_refused_input = True
            part = part.within

    def size(self, kind: CapKind) -> int:
        """Measure the call in the terms of a cap."""
        if kind is CapKind.ITEMS:
            return len(self.firsts)
        if kind is CapKind.CALL_TOKENS:
            return self.tokens
        return sum([item.size_bytes for item in self.firsts.values()])
