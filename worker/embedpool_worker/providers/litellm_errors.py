"""What LiteLLM's exceptions mean. Pure: it knows their classes by name.

An answer seen on the wire is judged by `failures`, whatever LiteLLM made of it. What is left are
its own refusals, and providers it reaches without our transport (boto3): their classes become the
status they stand for, so that there is one table of meanings.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import orjson

from embedpool_shared.errors import ProviderError, ProviderUnavailable, WrongAnswer
from embedpool_worker.providers.failures import failure, failure_in_answer

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from embedpool_worker.providers.litellm_http import Sighting

STATUS_OF_EXCEPTION: Final[Mapping[str, int]] = {
    "APIConnectionError": 503,
    "APIError": 503,
    "APIResponseValidationError": 502,
    "AuthenticationError": 401,
    "BadGatewayError": 502,
    "BadRequestError": 400,
    "BlockedPiiEntityError": 400,
    "BudgetExceededError": 402,
    "ContentPolicyViolationError": 400,
    "ContextWindowExceededError": 400,
    "GuardrailRaisedException": 400,
    "ImageFetchError": 400,
    "InternalServerError": 500,
    "InvalidRequestError": 400,
    "JSONSchemaValidationError": 502,
    "LiteLLMUnknownProvider": 404,
    "MidStreamFallbackError": 503,
    "MockException": 503,
    "ModelNotMappedError": 404,
    "ModifyResponseException": 400,
    "NotFoundError": 404,
    "OpenAIError": 503,
    "PaymentRequiredError": 402,
    "PermissionDeniedError": 403,
    "RateLimitError": 429,
    "RejectedRequestError": 400,
    "SensitiveDataRouteException": 400,
    "ServiceUnavailableError": 503,
    "Timeout": 408,
    "UnprocessableEntityError": 422,
    "UnsupportedParamsError": 400,
    "VectorStoreSearchError": 400,
}
_UNFORESEEN: Final = 503
_PARAM_OF: Final = {"UnsupportedParamsError": "params"}
_BEHIND: Final = re.compile(r"\s*Traceback \(most recent call last\)|\.? To drop (?:these|it)\b")
_PREFIX: Final = re.compile(r"^(?:litellm\.\w+: ?|\w*(?:Exception|Error) ?[-:] ?)+")


def ours(
    error: Exception, sighting: Sighting, *, now_unix_s: float, secrets: Collection[str] = ()
) -> ProviderError:
    """Name the condition behind an exception of LiteLLM, by what was seen on the wire if any."""
    if sighting.unreadable is not None:
        return WrongAnswer(sighting.unreadable)
    if sighting.broken is not None:
        return ProviderUnavailable(f"connection failed: {sighting.broken}")
    if sighting.status == 200:
        return failure_in_answer(sighting.body, now_unix_s=now_unix_s, secrets=secrets)
    if sighting.status is not None:
        return failure(
            sighting.status, sighting.headers, sighting.body, now_unix_s=now_unix_s, secrets=secrets
        )
    name = _known_name(error)
    said = {"message": _in_its_words(error), "param": _PARAM_OF.get(name)}
    status = STATUS_OF_EXCEPTION.get(name, _UNFORESEEN)
    return failure(status, {}, orjson.dumps(said), now_unix_s=now_unix_s, secrets=secrets)


def _in_its_words(error: Exception) -> str:
    """The message without LiteLLM's preface, advice and stack trace."""
    text = str(error).encode("utf-8", "replace").decode()
    return _PREFIX.sub("", _BEHIND.split(text, maxsplit=1)[0]).strip()


def _known_name(error: Exception) -> str:
    """The most specific class we know; several of LiteLLM's inherit from each other."""
    names = (cls.__name__ for cls in type(error).__mro__)
    return next((name for name in names if name in STATUS_OF_EXCEPTION), "")
