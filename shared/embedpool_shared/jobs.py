"""What crosses Redis: packs of jobs one way, replies and ledger records the other. Pure.

Every blob starts with one version byte; version n + 1 reads n, so processes are upgraded one at a
time. A field is only ever added at the end, with a default (msgspec reads a shorter array as
defaults and ignores a longer one's tail). For ever a job is (pack id, number).
"""

from __future__ import annotations

from enum import IntFlag, StrEnum
from typing import Final, TypeVar

import msgspec

from embedpool_shared import errors

WIRE_VERSION: Final = 1
MAX_JOB_ITEMS: Final = 64
"""A larger request is cut into jobs of at most this many items, so several workers share it."""
MAX_JOB_TOKENS: Final = 8_000
"""… and of about this many tokens, counted at four bytes each."""

Input = str | list[int]
"""One item as a caller gave it: a text, or the ids of a token array."""


class LaneClass(StrEnum):
    """Who waits for the answer; the value ends the name of the lane's stream."""

    INTERACTIVE = "i"  # a person or a program waits
    BULK = "b"  # throughput counts, latency does not


class MergeKey(msgspec.Struct, frozen=True, array_like=True):
    """What two items must have in common to share a provider call."""

    model: str  # the catalogue's name, or what a wildcard matched
    dimensions: int | None = None  # None: the model's own size
    params: str = ""  # provider parameters as canonical JSON, "" for none
    scope: str = ""  # who may share a call: "" everybody, else a team or a key
    provider: str = ""  # the part behind `model@`, "" for any


class CacheUse(IntFlag):
    """What the vector cache may do for a job."""

    NEITHER = 0
    READ = 1
    WRITE = 2
    BOTH = 3


class Bill(msgspec.Struct, array_like=True):
    """Who is charged for a request beside its job's account, and what is remembered of it."""

    request: str  # unique, the same for all jobs of the request
    jobs: int  # how many jobs the request was cut into
    accounts: list[str] = []  # "team:…", "user:…", "end_user:…", "tag:…"
    reserved: list[str] = []  # the accounts, its own among them, that hold the reservation
    call_id: str = ""  # the id the caller saw
    metadata: str = ""  # the caller's, as canonical JSON; only with the first job
    part: int = 0  # which of its jobs this is, from 0; the request counts with the first
    reservation: str = ""  # made for all requests that were let in together
    reserved_tokens: int = 0  # … this job's tokens in it, which cost what its tokens cost


class Job(msgspec.Struct, array_like=True):
    """A request, or a part of a large one: at most `MAX_JOB_ITEMS` inputs under one merge key."""

    number: int
    merge: int  # index into the pack's merge keys
    inputs: list[Input]
    budget_ms: int  # how long an answer is wanted, from the pack's arrival
    size_bytes: int
    tokens: int = 0  # the api's exact count; 0 means it did not count
    account: str = ""  # who pays: "key:…", "passthrough:…", "caller:master", "caller:open"
    price_per_token_pico_usd: int = 0
    bill: Bill | None = None
    sealed: bytes = b""  # a caller's own provider key, encrypted for this very job
    cache: CacheUse = CacheUse.BOTH
    trace: str = ""  # the span of its request, as W3C names it; "" where nobody asked for traces


class Pack(msgspec.Struct, array_like=True):
    """The jobs of one event-loop tick for one lane and class."""

    api: str  # the api process whose inbox gets the replies
    merges: list[MergeKey]
    jobs: list[Job]


class WireError(msgspec.Struct, array_like=True):
    """One of our errors on its way to the caller it is about."""

    kind: str
    message: str
    param: str | None = None
    code: str | None = None
    retry_after_s: float | None = None


class CallTrace(msgspec.Struct, array_like=True):
    """What the debug headers say about the provider call that answered a job."""

    model: str  # as the provider reported it
    provider: str
    deployment: str
    items: int
    requests: int
    tries: int
    provider_ms: float


class JobReply(msgspec.Struct, array_like=True):
    """A job's vectors, item after item, little-endian float32; or its error."""

    number: int
    vectors: bytes
    dims: int
    tokens: int  # the caller's own count: its `usage`
    queue_ms: float = 0.0
    trace: CallTrace | None = None
    error: WireError | None = None
    cached: int = 0  # how many of its items came from the vector cache
    cached_tokens: int = 0  # … and how many of its tokens


class Reply(msgspec.Struct, array_like=True):
    """The answers to some jobs of one pack, in any order."""

    pack_id: str
    jobs: list[JobReply]


class LedgerRecord(msgspec.Struct, array_like=True):
    """One ending of one job, in tokens. Over a call, used + waste = paid + saved."""

    pack_id: str
    number: int
    account: str
    model: str
    provider: str
    used: int  # the `usage` returned
    paid: int  # its share of what the provider reported
    saved: int  # used but never paid: deduplicated, or counted in our favour
    waste: int  # paid but never used
    reason: str = ""  # why nothing was used: cancelled, expired, fenced, failed …
    items: int = 0
    price_per_token_pico_usd: int = 0
    cached: int = 0  # the part of `used` that came from the cache, and costs nothing
    bill: Bill | None = None
    dims: int = 0
    requests: int = 1  # how many it stands for; a batch's lines are booked many at a time

    @property
    def cost_pico_usd(self) -> int:
        """What the caller is charged."""
        return (self.used - self.cached) * self.price_per_token_pico_usd


T = TypeVar("T")
_encoder = msgspec.msgpack.Encoder()
_version = bytes([WIRE_VERSION])


class WireVersionUnknown(errors.PoolError):
    """The other side speaks a version from the future."""


def encode(message: Pack | Reply | list[LedgerRecord]) -> bytes:
    """Write `message` as one versioned blob."""
    return _version + _encoder.encode(message)


def _decode(decoder: msgspec.msgpack.Decoder[T], blob: bytes) -> T:
    if not blob or blob[0] > WIRE_VERSION:
        raise WireVersionUnknown(
            f"wire version {blob[:1].hex() or 'missing'} is newer than {WIRE_VERSION}; "
            "upgrade this process"
        )
    return decoder.decode(memoryview(blob)[1:])


_packs = msgspec.msgpack.Decoder(Pack)
_replies = msgspec.msgpack.Decoder(Reply)
_records = msgspec.msgpack.Decoder(list[LedgerRecord])


def pack_from(blob: bytes) -> Pack:
    """Read a pack; raises `WireVersionUnknown`."""
    return _decode(_packs, blob)


def reply_from(blob: bytes) -> Reply:
    """Read a reply; raises `WireVersionUnknown`."""
    return _decode(_replies, blob)


def records_from(blob: bytes) -> list[LedgerRecord]:
    """Read ledger records; raises `WireVersionUnknown`."""
    return _decode(_records, blob)


def wire_error(error: errors.EmbedPoolError) -> WireError:
    """Describe `error` so that `error_from` raises its like on the other side."""
    return WireError(
        type(error).__name__, error.message, error.param, error.code, error.retry_after_s
    )


def error_from(wire: WireError) -> errors.EmbedPoolError:
    """Rebuild the error; a kind this version does not know is an `InternalError`."""
    cls = getattr(errors, wire.kind, errors.InternalError)
    if not (isinstance(cls, type) and issubclass(cls, errors.EmbedPoolError)):
        cls = errors.InternalError
    return cls(wire.message, param=wire.param, code=wire.code, retry_after_s=wire.retry_after_s)
