from __future__ import annotations

import asyncio
import os
import signal

import pytest

from embedpool_cli.stopping import SAME_KEYSTROKE_S, StopSignals
from support.virtual_time import in_virtual_time


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_any_stop_signal_asks_for_a_clean_stop(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_DFL)
    signals = StopSignals()
    signals.listen()

    os.kill(os.getpid(), number)
    await asyncio.wait_for(signals.stop.wait(), 20)

    assert not signals.at_once.is_set()
    signals.deafen()
    signal.signal(number, before)


async def test_a_hang_up_that_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signals = StopSignals()

    signals.listen()

    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    signals.deafen()
    signal.signal(signal.SIGHUP, before)


async def heard(second: signal.Signals, *, after_s: float) -> StopSignals:
    signals = StopSignals()
    signals.hear(signal.SIGINT)
    await asyncio.sleep(after_s)
    signals.hear(second)
    return signals


def test_a_second_ctrl_c_asks_for_an_end_at_once() -> None:
    signals = in_virtual_time(heard(signal.SIGINT, after_s=SAME_KEYSTROKE_S * 1.1))

    assert signals.at_once.is_set()


def test_one_ctrl_c_that_arrives_twice_counts_once() -> None:
    signals = in_virtual_time(heard(signal.SIGINT, after_s=SAME_KEYSTROKE_S * 0.9))

    assert signals.stop.is_set()
    assert not signals.at_once.is_set()


def test_a_service_manager_that_repeats_itself_changes_nothing() -> None:
    signals = in_virtual_time(heard(signal.SIGTERM, after_s=5.0))

    assert not signals.at_once.is_set()
