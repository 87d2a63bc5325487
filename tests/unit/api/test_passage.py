"""What a request leaves behind, for whoever looks at it when it is over."""

from __future__ import annotations

from embedpool_api.passage import Passage
from embedpool_shared.jobs import JobReply
from support.cards import found
from unit.api.test_orders import order_of


def answered(*replies: JobReply) -> Passage:
    passage = Passage("req_1", "POST", "embeddings", 0.0)
    passage.order = order_of("a", resolved=found(price_per_token_pico_usd=3))
    passage.answered(replies)
    return passage


def test_the_replies_of_a_large_request_add_up() -> None:
    passage = answered(JobReply(0, b"", 1, 9, cached=1, cached_tokens=4), JobReply(1, b"", 1, 2))

    assert (passage.tokens, passage.cached_items) == (11, 1)


def test_what_came_from_the_cache_is_free() -> None:
    assert answered(JobReply(0, b"", 1, 9, cached_tokens=4)).cost_pico_usd == 15


def test_what_was_never_understood_costs_nothing() -> None:
    assert Passage("req_1", "POST", "embeddings", 0.0).cost_pico_usd == 0
