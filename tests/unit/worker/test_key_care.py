"""What answers and failures do to a key, and what the other workers are told of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from embedpool_shared.errors import (
    CapExceeded,
    KeyForbidden,
    KeyRejected,
    ProviderError,
    ProviderThrottled,
    ProviderUnavailable,
    QuotaExhausted,
    RefusedInput,
    WrongAnswer,
)
from embedpool_shared.jobs import LaneClass
from embedpool_worker.deployments import Deployment, ProviderKey
from embedpool_worker.headroom import Lease, Return
from embedpool_worker.key_care import KeyCare
from embedpool_worker.keyring import KeyHealth
from embedpool_worker.permits import Permit, Permits
from embedpool_worker.provider_limits import Said
from embedpool_worker.providers.port import ProviderAnswer
from embedpool_worker.shared_keys import Report
from support.lane_bench import deployment
from support.virtual_time import in_virtual_time

USED_UP = {
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-remaining-requests": "0",
    "x-ratelimit-reset-requests": "2s",
}


@dataclass
class FakeShared:
    """Remembers what all workers were told."""

    reports: list[Report] = field(default_factory=list)
    quoted: list[Said] = field(default_factory=list)
    on_contact: Callable[[], None] = lambda: None

    def join(self, health: KeyHealth) -> None: ...

    def ask(
        self,
        health: KeyHealth,
        need: object = None,
        lane_class: LaneClass = LaneClass.INTERACTIVE,
    ) -> None:
        if need and health.headroom:
            health.headroom.lease(Lease(1, 1, 100, 1e9), lane_class)
            self.on_contact()

    def stir(self) -> None: ...

    def report(self, health: KeyHealth, report: Report) -> None:
        del health
        self.reports.append(report)

    def quote(self, health: KeyHealth, said: Said) -> None:
        del health
        self.quoted.append(said)


@dataclass
class Ward:
    """One key under care."""

    care: KeyCare
    permit: Permit
    shared: FakeShared

    @property
    def key(self) -> KeyHealth:
        return self.permit.health


def with_key(test: Callable[[Ward], None], place: Deployment | None = None, **own: Any) -> None:
    """Run `test` while a call with the key is in flight."""

    async def run() -> None:
        shared: Any = FakeShared()
        permits = Permits(slots_per_key=8, shared=shared)
        where = place or deployment("k")
        if own:
            theirs = replace(where, keys=(ProviderKey("s", "x"),), is_callers_own=True)
            permit = await permits.acquire([theirs], LaneClass.INTERACTIVE, until_at=9.0)
        else:
            permit = await permits.acquire([where], LaneClass.INTERACTIVE, until_at=9.0)
        test(Ward(KeyCare(permits), permit, shared))

    in_virtual_time(run())


def answer(**more: Any) -> ProviderAnswer:
    return ProviderAnswer([], 2, "m", **more)


@pytest.mark.parametrize(
    ("error", "rests_s", "reason"),
    [
        (ProviderThrottled("", retry_after_s=7.0), 7.0, "throttled"),
        (ProviderThrottled("", retry_after_s=0.01), 0.1, "throttled"),
        (ProviderThrottled(""), 5.0, "throttled"),
        (QuotaExhausted("", retry_after_s=1.0), 300.0, "quota"),
        (ProviderUnavailable("", retry_after_s=3.0), 3.0, "throttled"),
    ],
)
def test_a_key_rests_as_long_as_it_was_told_here_and_everywhere(
    error: ProviderError, rests_s: float, reason: str
) -> None:
    def test(ward: Ward) -> None:
        ward.care.failed(ward.permit, error)

        assert ward.key.cooling_until_at == pytest.approx(rests_s)
        (report,) = ward.shared.reports
        assert (report.what, report.reason) == ("cooling", reason)
        assert report.until_at == pytest.approx(rests_s)

    with_key(test)


@pytest.mark.parametrize("error", [KeyRejected(""), KeyForbidden("")])
def test_a_rejected_key_is_retired_here_and_everywhere(error: ProviderError) -> None:
    def test(ward: Ward) -> None:
        ward.care.failed(ward.permit, error)

        assert ward.key.is_retired
        assert [report.what for report in ward.shared.reports] == ["retired"]

    with_key(test)


@pytest.mark.parametrize("error", [RefusedInput(""), CapExceeded(""), WrongAnswer("")])
def test_what_is_wrong_with_a_batch_is_not_held_against_the_key(error: ProviderError) -> None:
    def test(ward: Ward) -> None:
        for _ in range(10):
            ward.care.failed(ward.permit, error)

        assert ward.key.is_usable(0.0)
        assert ward.shared.reports == []

    with_key(test)


def test_a_key_that_keeps_failing_rests_everywhere() -> None:
    def test(ward: Ward) -> None:
        for _ in range(3):
            assert ward.key.is_usable(0.0)
            ward.care.failed(ward.permit, ProviderUnavailable("HTTP 500"))

        assert not ward.key.is_usable(4.9)
        assert [(r.what, r.reason) for r in ward.shared.reports] == [("cooling", "failing")]

    with_key(test)


def test_a_failing_key_is_as_good_as_any_when_the_provider_said_it_would_be() -> None:
    def test(ward: Ward) -> None:
        ward.care.failed(ward.permit, ProviderUnavailable("503", retry_after_s=0.8))

        assert ward.key.rested_at() == 0.8
        assert ward.key.breaker.is_doubted(0.79)
        assert not ward.key.breaker.is_doubted(0.8)

    with_key(test)


@pytest.mark.parametrize(
    ("error", "halves"),
    [
        (ProviderThrottled(""), True),
        (ProviderUnavailable("", code="timeout"), True),
        (ProviderUnavailable("HTTP 500"), False),
        (QuotaExhausted(""), False),
    ],
)
def test_slots_are_halved_when_the_provider_is_overrun(error: ProviderError, halves: bool) -> None:
    def test(ward: Ward) -> None:
        ward.care.failed(ward.permit, error)

        assert any(report.halves_slots for report in ward.shared.reports) is halves

    with_key(test)


def test_a_trial_that_worked_is_told_to_all() -> None:
    def test(ward: Ward) -> None:
        ward.key.put_on_trial()

        ward.care.answered(ward.permit, answer(), None, 0.1)

        assert not ward.key.is_on_trial
        assert [report.what for report in ward.shared.reports] == ["well"]

    with_key(test)


def test_a_callers_own_key_is_left_alone_whatever_happens() -> None:
    def test(ward: Ward) -> None:
        for error in (
            KeyRejected(""),
            ProviderThrottled("", retry_after_s=9.0),
            QuotaExhausted(""),
        ):
            ward.care.failed(ward.permit, error)
        ward.care.answered(ward.permit, answer(headers=USED_UP), None, 0.1)

        assert ward.key.is_usable(0.0)
        assert ward.shared.reports == []

    with_key(test, own=True)


def test_a_key_without_limits_rests_when_the_provider_says_that_nothing_remains() -> None:
    def test(ward: Ward) -> None:
        ward.care.answered(ward.permit, answer(headers=USED_UP), None, 0.1)

        assert ward.key.cooling_until_at == pytest.approx(2.0)
        assert [report.reason for report in ward.shared.reports] == ["used_up"]

    with_key(test)


def test_what_the_provider_says_of_a_limited_keys_limits_is_passed_on() -> None:
    def test(ward: Ward) -> None:
        ward.care.answered(ward.permit, answer(headers=USED_UP), None, 0.1)
        refusal = ProviderThrottled("", retry_after_s=1.0)
        refusal.headers = USED_UP
        ward.care.failed(ward.permit, refusal)

        assert [said.requests.remaining for said in ward.shared.quoted] == [0, 0]

    with_key(test, deployment("k", rpm=60))


def test_no_lease_is_used_once_the_provider_says_that_nothing_remains() -> None:
    def test(ward: Ward) -> None:
        headroom = ward.key.headroom
        assert headroom is not None
        headroom.lease(Lease(7, 3, 20, 1e9))

        ward.care.answered(ward.permit, answer(headers=USED_UP), None, 0.1)

        assert headroom.leases == []
        assert headroom.handed_back()[-1] == Return(7, 3, 20)

    with_key(test, deployment("k", rpm=60))


@pytest.mark.parametrize(
    ("total", "exact", "back"), [(40, [1], 60), (None, [30, 30], 40), (None, None, 0)]
)
def test_tokens_are_settled_with_the_best_count_there_is(
    total: int | None, exact: list[int] | None, back: int
) -> None:
    def test(ward: Ward) -> None:
        ward.permit.begin(100)

        ward.care.answered(ward.permit, answer(total_tokens=total), exact, 0.1)

        assert ward.key.headroom is not None
        assert sum(returned.tokens for returned in ward.key.headroom.handed_back()) == back

    with_key(test, deployment("k", tpm=1_000))
