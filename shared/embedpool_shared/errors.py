"""Every error embedpool raises, in one tree. Pure.

EmbedPoolError
├── ConfigInvalid              the configuration cannot be used; start-up stops
├── CallerError                the caller can do something about it
│   ├── BadRequest             a field, a shape or a value is wrong
│   │   ├── InputRefused       the provider refuses this very input
│   │   └── RequestExceedsLimit  more than the key's limits could ever admit
│   ├── InvalidApiKey          no key, an unknown, expired or blocked one
│   ├── ModelNotAllowed        this key may not use this model
│   ├── RouteNotAllowed        this key may not use this route
│   ├── RateLimited            too fast for the key's, its team's or its user's limits
│   ├── BudgetExceeded         the key's, its team's or its user's money is used up
│   ├── NotFound               no key, team, user, file or batch of that name
│   ├── OwnKeyRefused          the provider refuses the caller's own key (401)
│   │   └── OwnKeyForbidden    … or what it may do (403)
│   ├── OwnKeyThrottled        the caller's own key is too fast for the provider (429)
│   ├── ModelNotFound          nobody serves a model of that name
│   ├── PathNotFound           no such route
│   ├── MethodNotAllowed       the route exists, the method does not
│   ├── BodyTooLarge           more bytes than a request may have
│   └── NotJson                the body is not JSON and does not claim to be
├── PoolError                  the pool cannot answer now
│   ├── Overloaded             the queue is full
│   ├── QueueUnavailable       Redis is away, or no worker lives
│   ├── NoKeys                 no usable provider key before the deadline
│   ├── DeadlineExceeded       nobody listens any more
│   ├── ProviderFailed         the provider failed after all tries
│   ├── StoreUnavailable       the file store is away, or full
│   └── InternalError          our bug
└── ProviderError              what an adapter raises; becomes a verdict, never crosses Redis
    ├── RefusedInput           400/422: at least one input of the call is not wanted
    ├── CapExceeded            the call was larger than the provider allows
    ├── CallTooLarge           … than the deployment allows whose turn it is; nobody was called
    ├── ProviderThrottled      429: too fast for this key
    ├── QuotaExhausted         429 for good: the account has no money left
    ├── KeyRejected            401: this key does not work
    │   └── KeyForbidden       403: it works, but not for this
    ├── ProviderUnavailable    5xx, refused, reset or silent
    └── WrongAnswer            200, but not the vectors that were asked for
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType


class EmbedPoolError(Exception):
    """Base of everything embedpool raises; `str()` of it is fit for the caller's eyes."""

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        """Say what was wrong and what would be right, never a secret and never the input text."""
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s


class ConfigInvalid(EmbedPoolError):
    """The configuration cannot be used."""


class CallerError(EmbedPoolError):
    """The caller can do something about it."""


class BadRequest(CallerError):
    """A field, a shape or a value is wrong."""


class InputRefused(BadRequest):
    """The provider refuses this very input."""


class InvalidApiKey(CallerError):
    """No key, or an unknown, expired or blocked one."""


class ModelNotAllowed(CallerError):
    """This key may not use this model."""


class RequestExceedsLimit(BadRequest):
    """More than the caller's limits could ever admit; waiting would not help."""


class RouteNotAllowed(CallerError):
    """This key may not use this route."""


class RateLimited(CallerError):
    """Too fast for a limit of the key, its team or its user."""


class BudgetExceeded(CallerError):
    """The budget of the key, its team or its user is used up."""


class NotFound(CallerError):
    """No key, team, user, file or batch of that name."""


class OwnKeyRefused(CallerError):
    """The provider does not accept the caller's own key."""


class OwnKeyForbidden(OwnKeyRefused):
    """The provider does not let the caller's own key do this."""


class OwnKeyThrottled(CallerError):
    """The caller's own key is too fast for the provider."""


class ModelNotFound(CallerError):
    """Nobody serves a model of that name."""


class PathNotFound(CallerError):
    """No such route."""


class MethodNotAllowed(CallerError):
    """The route exists, the method does not."""


class BodyTooLarge(CallerError):
    """More bytes than a request may have."""


class NotJson(CallerError):
    """The body is not JSON and does not claim to be."""


class PoolError(EmbedPoolError):
    """The pool cannot answer now."""


class Overloaded(PoolError):
    """The queue is full."""


class QueueUnavailable(PoolError):
    """Redis is away, or no worker lives."""


class NoKeys(PoolError):
    """No usable provider key before the deadline."""


class DeadlineExceeded(PoolError):
    """Nobody listens any more."""


class ProviderFailed(PoolError):
    """The provider failed after all tries."""


class StoreUnavailable(PoolError):
    """The file store is away, full, or not there at all."""


class InternalError(PoolError):
    """Our bug."""


class ProviderError(EmbedPoolError):
    """What an adapter raises; a verdict is made of it, it never crosses Redis."""

    headers: Mapping[str, str] = MappingProxyType({})
    """What of the answer's headers a key's limits can be read from; names are lower case."""


class RefusedInput(ProviderError):
    """At least one input of the call is not wanted."""


class CapExceeded(ProviderError):
    """The call was larger than the provider allows."""


class CallTooLarge(ProviderError):
    """The deployment whose turn it is takes smaller calls; nobody was called."""


class ProviderThrottled(ProviderError):
    """Too fast for this key."""


class QuotaExhausted(ProviderError):
    """The key's account has no money left."""


class KeyRejected(ProviderError):
    """This key does not work."""


class KeyForbidden(KeyRejected):
    """This key works, but not for this."""


class ProviderUnavailable(ProviderError):
    """5xx, connection refused or reset, or no answer in time."""


class WrongAnswer(ProviderError):
    """A 200 that does not hold the vectors that were asked for."""
