"""What the fake provider refuses, and in whose words. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from support.wire_formats import Ask, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.faults import Behaviour

_MESSAGES: Final = {
    400: "The request is invalid.",
    401: "Incorrect API key provided.",
    403: "You are not allowed to use this model.",
    404: "The model does not exist.",
    413: "The request is too large.",
    429: "Rate limit reached for requests.",
}


def refuse(ask: Ask, counts: Sequence[int], behaviour: Behaviour) -> None:
    """Raise `Refused` for a call that `behaviour` does not let pass; `counts` are its tokens."""
    if behaviour.status is not None:
        message = behaviour.message or _MESSAGES.get(behaviour.status, "The server had an error.")
        raise Refused(behaviour.status, message)
    if behaviour.refuses_base64 and ask.wants_base64:
        raise Refused(400, "encoding_format base64 is not supported", "encoding_format")
    if behaviour.refuses_dimensions and ask.dims is not None:
        raise Refused(400, "This model does not support specifying dimensions.", "dimensions")
    _refuse_size(counts, behaviour)


def _refuse_size(counts: Sequence[int], behaviour: Behaviour) -> None:
    most = behaviour.max_items
    if most is not None and len(counts) > most:
        raise Refused(400, f"batch size is invalid, it should not be larger than {most}.", "input")
    most = behaviour.max_tokens
    if most is not None and sum(counts) > most:
        raise Refused(400, f"Too many tokens in batch. Max is {most} got {sum(counts)}", "input")
    most = behaviour.max_item_tokens
    if most is not None and max(counts) > most:
        raise Refused(
            400,
            f"This model's maximum context length is {most} tokens, however you requested "
            f"{max(counts)} tokens. Please reduce your prompt.",
            "input",
        )
