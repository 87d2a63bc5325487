from __future__ import annotations

from embedpool_cli.embed.answers import Refusal, Verdict
from embedpool_cli.embed.trials import DOUBTS_BEFORE_BLAME, Step, Trial


def step(trial: Trial, verdict: Verdict, *, alone: bool = False, others: bool = False) -> Step:
    return trial.step(Refusal(verdict, "no"), is_alone=alone, others_fare_well=others)


def test_an_unwanted_text_is_found_by_splitting_and_rejected_alone() -> None:
    assert step(Trial(2), Verdict.SPLIT) is Step.SPLIT
    assert step(Trial(1), Verdict.SPLIT) is Step.REJECT


def test_a_pool_that_cannot_now_is_waited_for_for_ever() -> None:
    trial = Trial(1)

    assert {step(trial, Verdict.WAIT, others=True) for _ in range(100)} == {Step.PAUSE}


def test_while_nobody_is_answered_no_text_is_to_blame() -> None:
    for trial in (Trial(1), Trial(8)):
        assert {step(trial, Verdict.DOUBT) for _ in range(100)} == {Step.PAUSE}


def test_a_request_that_fails_while_others_fare_well_is_taken_apart() -> None:
    trial, single = Trial(8), Trial(1)

    steps = [step(trial, Verdict.DOUBT, others=True) for _ in range(DOUBTS_BEFORE_BLAME)]
    last = [step(single, Verdict.DOUBT, others=True) for _ in range(DOUBTS_BEFORE_BLAME)]

    assert steps == [Step.PAUSE] * (DOUBTS_BEFORE_BLAME - 1) + [Step.SPLIT]
    assert last[-1] is Step.REJECT


def test_a_part_of_a_doubted_request_has_less_to_prove() -> None:
    trial = Trial(8)
    for _ in range(DOUBTS_BEFORE_BLAME):
        step(trial, Verdict.DOUBT, others=True)

    part = trial.part(4)

    steps = [step(part, Verdict.DOUBT, others=True) for _ in range(2)]
    assert steps == [Step.PAUSE, Step.SPLIT]


def test_a_request_too_large_for_its_deadline_becomes_smaller_but_no_text_is_lost() -> None:
    large, small = Trial(64), Trial(8)

    assert [step(large, Verdict.SHRINK) for _ in range(2)] == [Step.PAUSE, Step.SPLIT]
    assert {step(small, Verdict.SHRINK) for _ in range(50)} == {Step.PAUSE}


def test_what_every_request_would_meet_ends_the_run() -> None:
    assert step(Trial(8), Verdict.STOP) is Step.STOP
