"""Every name embedpool uses in Redis, built here and nowhere else. Pure.

Names of one lane share the hash tag `{lane:<model>}`, so each script stays in one slot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from embedpool_shared.jobs import LaneClass

GROUP: Final = "pool"
"""The consumer group of every lane stream."""


@dataclass(frozen=True, slots=True)
class LaneNames:
    """The names of one lane."""

    tag: str

    def stream(self, lane_class: LaneClass) -> str:
        """Packs waiting or leased."""
        return f"{self.tag}:{lane_class.value}"

    @property
    def depth(self) -> str:
        """Hash: items, bytes, tokens not yet answered; served in this and the last second."""
        return f"{self.tag}:depth"

    @property
    def ledger(self) -> str:
        """Stream: one entry of records per pack of a commit."""
        return f"{self.tag}:ledger"

    @property
    def dead(self) -> str:
        """Capped stream: jobs given up after too many deliveries, without their text."""
        return f"{self.tag}:dead"

    def pk(self, pack_id: str) -> str:
        """String with TTL: this pack was enqueued; makes the enqueue repeatable."""
        return f"{self.tag}:pk:{pack_id}"

    def part(self, pack_id: str) -> str:
        """Bitmap with TTL: bit 2n, job n is committed; bit 2n + 1, it is cancelled."""
        return f"{self.tag}:part:{pack_id}"

    def begun(self, pack_id: str) -> str:
        """Hash with TTL: how often each suspect of a pack was tried."""
        return f"{self.tag}:begun:{pack_id}"

    def inbox(self, api_id: str) -> str:
        """Stream with TTL: this lane's replies to one api process."""
        return f"{self.tag}:in:{api_id}"

    def booked(self, batch_id: str) -> str:
        """Hash with TTL: how far a batch is booked, under which epoch, and its part files."""
        return f"{self.tag}:batch:{batch_id}"

    @property
    def roll(self) -> str:
        """Hash: who rolls the ledger up until when, and the range being applied."""
        return f"{self.tag}:roll"


@dataclass(frozen=True, slots=True)
class AccountNames:
    """The names of one account: whoever limits or spend are counted for."""

    tag: str

    @property
    def account(self) -> str:
        """Hash: the record, the limits, the spend."""
        return self.tag

    @property
    def window(self) -> str:
        """Hash with TTL: requests and tokens admitted in each of the last 60 seconds."""
        return f"{self.tag}:window"

    @property
    def held(self) -> str:
        """Hash with TTL: reservations by request, and what is in flight by api process."""
        return f"{self.tag}:held"


@dataclass(frozen=True, slots=True)
class Names:
    """All names under one prefix."""

    prefix: str = "ep"

    def lane(self, model: str) -> LaneNames:
        """Name the parts of a model's lane."""
        return LaneNames(f"{self.prefix}:{{lane:{model}}}")

    def account(self, name: str) -> AccountNames:
        """Name the parts of the account `<kind>:<id>`."""
        return AccountNames(f"{self.prefix}:{{acct:{name}}}")

    def accounts(self, kind: str) -> str:
        """Sorted set: the ids of all accounts of a kind, by when they were last heard of."""
        return f"{self.prefix}:{{accounts}}:{kind}"

    def aliases(self, kind: str) -> str:
        """Hash: who has an alias among the accounts of a kind, and since when."""
        return f"{self.accounts(kind)}:alias"

    def key_of(self, digest: str) -> str:
        """String: the id of the virtual key with this digest."""
        return f"{self.prefix}:{{auth:{digest}}}"

    def provider_key(self, key_id: str) -> str:
        """Hash: a provider key's limits, cooling and slots, shared by all workers."""
        return f"{self.prefix}:{{key:{key_id}}}"

    def vector(self, digest: str) -> str:
        """String with TTL: one cached vector."""
        return f"{self.prefix}:{{vec:{digest}}}"

    @property
    def spend_log(self) -> str:
        """Capped stream: a usage record per job."""
        return f"{self.prefix}:{{spendlog}}"

    @property
    def spend_log_seen(self) -> str:
        """Hash: the last ledger id copied to the spend log, by lane."""
        return f"{self.prefix}:{{spendlog}}:seen"

    @property
    def lanes(self) -> str:
        """Stream: every lane once, in the order of its first use."""
        return f"{self.prefix}:{{lanes}}"

    @property
    def known_lanes(self) -> str:
        """Set: the lanes that `lanes` already has."""
        return f"{self.prefix}:{{lanes}}:known"

    @property
    def catalog(self) -> str:
        """Hash: what workers can do, and the version of it."""
        return f"{self.prefix}:catalog"

    @property
    def caps(self) -> str:
        """Hash with TTL: what refusals taught of providers' caps."""
        return f"{self.prefix}:caps"

    @property
    def vectors(self) -> str:
        """Hash with TTL: how many bytes of vectors were cached, by when."""
        return f"{self.prefix}:vectors"

    @property
    def alive(self) -> str:
        """Sorted set: every living process, by the Redis time its presence ends."""
        return f"{self.prefix}:alive"

    def file(self, file_id: str) -> str:
        """Hash with TTL: one file's record."""
        return f"{self.bulk}:file:{file_id}"

    def files(self, owner: str) -> str:
        """Sorted set with TTL: an owner's files, by when they expire."""
        return f"{self.bulk}:files:{owner}"

    def listed_files(self, owner: str) -> str:
        """Sorted set with TTL: an owner's files, by their creation; "" for all owners'."""
        return f"{self.bulk}:listed:{owner}"

    def stored(self, owner: str) -> str:
        """Hash with TTL: the size of each of an owner's files, for its quota."""
        return f"{self.bulk}:stored:{owner}"

    def batch(self, batch_id: str) -> str:
        """Hash with TTL: one batch, see `batches`."""
        return f"{self.bulk}:batch:{batch_id}"

    def batches(self, owner: str) -> str:
        """Sorted set with TTL: an owner's batches, by their creation; "" for all owners'."""
        return f"{self.bulk}:batches:{owner}"

    @property
    def contents(self) -> str:
        """Sorted set: every file in the file store, by when its content is to be deleted."""
        return f"{self.bulk}:contents"

    @property
    def bulk(self) -> str:
        """What all names of files and batches begin with; they share a slot."""
        return f"{self.prefix}:{{bulk}}"

    @property
    def active_batches(self) -> str:
        """Sorted set: batches that have not ended, by when they were created."""
        return f"{self.bulk}:active"

    @property
    def bulk_lease(self) -> str:
        """Hash: the worker that runs all batches, until when, and its epoch."""
        return f"{self.bulk}:lease"

    @property
    def file_store(self) -> str:
        """String: the mark of the file store that every process has to see."""
        return f"{self.bulk}:store"

    @property
    def bulk_jobs(self) -> str:
        """The queue of arq's jobs that see to batches."""
        return f"{self.bulk}:jobs"

    @property
    def maintenance(self) -> str:
        """The queue of arq's maintenance jobs."""
        return f"{self.prefix}:maintenance"
