"""Every provider call is told of once: counted, logged and traced by what it came to."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from embedpool_shared.errors import (
    CapExceeded,
    KeyRejected,
    ProviderError,
    ProviderThrottled,
    ProviderUnavailable,
    QuotaExhausted,
    RefusedInput,
    WrongAnswer,
)
from embedpool_shared.jobs import LaneClass
from embedpool_shared.measures import OUTCOME, UNKNOWN_MODEL, WASTE
from embedpool_shared.telemetry.journal import Journal
from embedpool_shared.telemetry.meters import Meters, Spread
from embedpool_shared.telemetry.spans import Tracing
from embedpool_worker.called import CUT_OFF, OK, outcome
from embedpool_worker.deployments import Deployment
from embedpool_worker.endings import Ending
from embedpool_worker.held import HeldPack
from embedpool_worker.metrics import WorkerMetrics
from embedpool_worker.providers.port import ProviderCall
from embedpool_worker.witness import Witness
from support.held import pack_of
from support.lane_bench import FakeProvider, bench, deployment
from support.virtual_time import in_virtual_time

CANARY: Final = "canary-text-of-a-caller"
PLACE: Final = deployment("k", id_="openai/m")
CALLED: Final = "calls_total m openai openai/m"
ERRORS: Final[dict[str, ProviderError]] = {
    "throttled": ProviderThrottled("x", retry_after_s=1.0),
    "quota": QuotaExhausted("x"),
    "rejected": KeyRejected("x"),
    "unavailable": ProviderUnavailable("x"),
    "timeout": ProviderUnavailable("x", code="timeout"),
    "wrong": WrongAnswer("x"),
    "refused": RefusedInput(CANARY),
    "cap": CapExceeded("x"),
}


@dataclass
class Watched:
    """What a witness has told so far."""

    models: Sequence[str] = ("m",)
    tracing: Tracing | None = None
    meters: Meters = field(default_factory=Meters)
    written: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        journal = Journal(self.written.append, level=logging.INFO, is_json=True)
        self.metrics = WorkerMetrics(self.meters)
        self.witness = Witness(self.metrics, models=self.models, kept=journal, tracing=self.tracing)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.written]

    def values(self) -> dict[str, float]:
        """Every series that is not zero, by its name and labels; of a histogram the number."""
        found = {
            " ".join((measure.name.removeprefix("embedpool_"), *labels)): (
                sum(one.counts) if isinstance(one, Spread) else one.value
            )
            for measure, labels, one in self.meters.made
        }
        return {name: value for name, value in found.items() if value}

    def sent(
        self,
        *packs: HeldPack,
        places: Sequence[Deployment] = (PLACE,),
        provider: FakeProvider | None = None,
    ) -> None:
        """Admit these packs together and wait for all that follows."""

        async def run() -> None:
            witness = self.witness.lane("m")
            async with bench(*places, provider=provider, witness=witness) as on:
                for pack in packs:
                    on.admit(pack)

        in_virtual_time(run())


def failing_once(error: ProviderError) -> FakeProvider:
    left = [error]
    return FakeProvider(objection=lambda _: left.pop() if left else None)


def test_one_call_for_three_requests_is_counted_by_all_that_is_known_of_it() -> None:
    watched = Watched()

    watched.sent(pack_of(["x", "y", "x"], ["y"], [CANARY]))

    assert watched.values() == {
        f"{CALLED} ok": 1,
        "call_seconds openai openai/m": 1,
        "call_items m": 1,
        "call_requests m": 1,
        "call_fill_ratio m": 1,
        "calls_saved_total m": 2,
        "deduplicated_items_total m batch": 2,
        "build_info worker 0": 1,
    }
    assert watched.metrics.items.of("m").total == 3
    assert watched.metrics.fill.of("m").total == pytest.approx(3 / 64)


def test_those_who_wait_have_their_answers_before_anything_is_told() -> None:
    watched = Watched()
    told_at_the_end: list[int] = []

    async def run() -> None:
        async with bench(PLACE, witness=watched.witness.lane("m")) as on:
            end = on.committer.end

            def note_and_end(endings: Sequence[Ending]) -> None:
                # The real one is woken by this, and commits in its next turn.
                if endings:
                    asyncio.get_running_loop().call_soon(
                        lambda: told_at_the_end.append(len(watched.lines))
                    )
                end(endings)

            any_committer: Any = on.committer
            any_committer.end = note_and_end
            on.admit(pack_of(["x"]))

    in_virtual_time(run())

    assert told_at_the_end == [0]
    assert len(watched.lines) == 1


def test_a_part_that_was_answered_is_told_while_the_search_goes_on() -> None:
    watched = Watched()
    provider = FakeProvider(
        objection=lambda call: RefusedInput("bad text") if "d" in call.inputs else None
    )

    async def run() -> None:
        async with bench(PLACE, provider=provider, witness=watched.witness.lane("m")) as on:
            on.admit(pack_of(["a"], ["b"], ["c"], ["d"]))
            await asyncio.sleep(2.5 * provider.takes_s)

            assert provider.in_flight == 2
            assert watched.values()["calls_in_flight openai"] == 2
            assert watched.values()[f"{CALLED} ok"] == 1

    in_virtual_time(run())


def test_its_line_says_where_it_went_with_which_key_and_for_whom() -> None:
    watched = Watched()

    watched.sent(pack_of(["x"], [CANARY], pack_id="pack-1"), pack_of(["y"], pack_id="pack-2"))

    [line] = watched.lines
    assert line.pop("id").startswith("call_")
    assert line.pop("at")
    assert line == {
        "event": "provider_call", "level": "info", "model": "m", "provider": "openai",
        "deployment": "openai/m", "key": "k", "outcome": "ok", "ms": line["ms"], "items": 3,
        "inputs": 3, "tries": 1, "jobs": ["pack-1:0", "pack-1:1", "pack-2:0"],
    }  # fmt: skip
    assert CANARY not in json.dumps(line)
    assert "secret" not in json.dumps(line)


@pytest.mark.parametrize(("name", "error"), ERRORS.items())
def test_a_failure_has_its_outcome_and_is_logged_without_its_words(
    name: str, error: ProviderError
) -> None:
    watched = Watched()

    watched.sent(pack_of([CANARY]), provider=failing_once(error), places=[deployment("k", "l")])

    values = watched.values()
    assert values[f"calls_total m openai d {name}"] == 1
    assert watched.lines[0]["outcome"] == name
    assert watched.lines[0]["error"] == type(error).__name__
    assert CANARY not in json.dumps(watched.lines)
    assert "calls_in_flight openai" not in values


def test_every_outcome_of_the_table_is_one_that_some_error_has() -> None:
    assert {outcome(error) for error in ERRORS.values()} | {OK} == set(OUTCOME.values)
    assert CUT_OFF not in OUTCOME.values


def test_a_further_try_is_counted_by_its_reason_and_with_another_key_as_failover() -> None:
    watched = Watched()

    watched.sent(
        pack_of(["x"]),
        provider=failing_once(ERRORS["throttled"]),
        places=[deployment("k", "l")],
    )

    assert watched.values()["retries_total openai throttled"] == 1
    assert watched.values()["failovers_total openai"] == 1
    assert [line["tries"] for line in watched.lines] == [1, 2]


def test_a_refused_call_is_cut_and_each_cut_is_counted() -> None:
    watched = Watched()

    def objection(call: ProviderCall) -> ProviderError | None:
        return ERRORS["refused"] if "bad" in call.inputs else None

    watched.sent(pack_of(["a", "b", "bad", "c"]), provider=FakeProvider(objection=objection))

    values = watched.values()
    assert values["splits_total m refused"] == 2
    assert values[f"{CALLED} refused"] == 3


def test_a_call_under_way_is_in_flight() -> None:
    watched = Watched()
    seen: list[float] = []

    def objection(_: ProviderCall) -> None:
        seen.append(watched.values()["calls_in_flight openai"])

    watched.sent(pack_of(["x"]), provider=FakeProvider(objection=objection))

    assert seen == [1]
    assert "calls_in_flight openai" not in watched.values()


def test_the_oldest_requests_wait_is_measured_from_its_lease() -> None:
    watched = Watched()
    pack = pack_of(["x"])
    pack.leased_at = 0.001

    async def run() -> None:
        import asyncio  # noqa: PLC0415

        await asyncio.sleep(2.001)
        async with bench(PLACE, witness=watched.witness.lane("m")) as on:
            on.admit(pack)

    in_virtual_time(run())

    assert watched.metrics.wait_s.of("m", "interactive").total == pytest.approx(2.0)


def test_waiting_items_are_counted_down_as_they_leave() -> None:
    watched = Watched()
    lane = watched.witness.lane("m")
    lane.metrics.waiting(LaneClass.BULK, 7)
    assert watched.values()["worker_waiting_items m bulk"] == 7

    watched.sent(pack_of(["x"], lane_class=LaneClass.BULK))

    assert "worker_waiting_items m bulk" not in watched.values()


def test_a_lane_of_no_model_of_ours_is_an_unknown_models() -> None:
    watched = Watched(models=())

    watched.sent(pack_of(["x"]))

    assert watched.values()[f"call_items {UNKNOWN_MODEL}"] == 1


def test_tokens_are_counted_as_the_ledger_has_them() -> None:
    watched = Watched()
    lane = watched.witness.lane("m")

    lane.metrics.rolled_up([("openai", 90)], 12, [("DeadlineExceeded", 5), ("ProviderFailed", 7)])

    values = watched.values()
    assert values["provider_tokens_total m openai"] == 90
    assert values["saved_tokens_total m"] == 12
    assert values["waste_tokens_total m expired"] == 5
    assert values["waste_tokens_total m failed"] == 7
    assert {"expired", "failed"} < set(WASTE.values)


def test_the_series_of_a_fleet_are_there_from_the_start_and_calls_add_none() -> None:
    watched = Watched()
    watched.metrics.declare({"m": [PLACE]})
    before = len(watched.meters.made)

    watched.sent(pack_of(["x"]), provider=failing_once(ERRORS["throttled"]))

    assert len(watched.meters.made) == before


def test_its_span_is_linked_to_the_requests_it_was_made_for() -> None:
    traced = pytest.importorskip("unit.shared.test_telemetry_tracing")
    collected = traced.Collected()
    watched = Watched(tracing=collected.tracing)
    pack = pack_of(["x"], ["y"], [CANARY])
    for job in list(pack.open.values())[:2]:
        job.job.trace = traced.PARENT

    watched.sent(pack)

    [span] = collected.spans
    assert len(span.links) == 2
    assert span.attributes["gen_ai.operation.name"] == "embeddings"
    assert span.attributes["embedpool.outcome"] == "ok"
    assert CANARY not in span.to_json()
