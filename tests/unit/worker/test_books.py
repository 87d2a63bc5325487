"""What the books tell Redis of a range; what comes of it needs a real server."""

from __future__ import annotations

from typing import Any

from embedpool_shared.jobs import Bill, LedgerRecord
from embedpool_shared.names import Names
from embedpool_worker.books import APPLIED_AT_ONCE, COPIED_AT_ONCE, FLEETING_MS, Books
from embedpool_worker.tallies import Tallies
from support.fake_line import FakeLine, Told
from support.virtual_time import in_virtual_time

NAMES = Names()


def entered(*records: LedgerRecord, entries: int = 1, forgotten: tuple[bytes, ...] = ()) -> Any:
    """Enter a range that ends at `<entries>-0`, and return the line."""

    def answer(told: Told) -> Any:
        return [list(forgotten)] * len(told.keys) if told.what == "heard" else 1

    line: Any = FakeLine(answer)
    tallies = Tallies("m")
    tallies.add(records)
    listed = [(b"%d-0" % n, b"blob %d" % n) for n in range(1, entries + 1)]
    in_virtual_time(Books(line, NAMES, "m").enter(listed, tallies))
    return line


def spent(account: str, *others: str) -> LedgerRecord:
    bill = Bill("r", 1, list(others), [account], reservation="res", reserved_tokens=11)
    return LedgerRecord(
        "p", 0, account, "m", "openai", 9, 7, 2, 0, price_per_token_pico_usd=3, bill=bill
    )


def test_an_account_is_told_the_lane_the_range_its_sums_and_its_settlements() -> None:
    line = entered(spent("key:k"), entries=5)

    names = NAMES.account("key:k")
    (told,) = [told for told in line.told_of("apply") if names.account in told.keys]
    assert told.keys == [names.account, names.window, names.held]
    assert told.arguments == ["m", b"5-0", 1, 27, 9, 7, 2, 0, 0, 1, "res", 1, 11, 33, 9]


def test_only_accounts_with_made_up_ids_end_by_themselves() -> None:
    made_up = {"end_user:e", "tag:t", "passthrough:0123"}

    line = entered(spent("key:k", "team:t", "user:u", *made_up))

    kept = {told.keys[0]: told.arguments[8] for told in line.told_of("apply")}
    assert {name for name, kept_ms in kept.items() if kept_ms} == {
        NAMES.account(account).account for account in made_up
    }
    assert set(kept.values()) == {0, FLEETING_MS}


def test_accounts_that_exist_by_being_spent_on_are_listed() -> None:
    line = entered(spent("caller:open", "end_user:a:b", "end_user:c", "team:t"))

    (told,) = line.told_of("heard")
    assert told.keys == [NAMES.accounts(k) for k in ("caller", "end_user", "model", "provider")]
    assert told.arguments == [0, 1, "open", 100_000, 2, "a:b", "c", 0, 1, "m", 0, 1, "openai"]


def test_accounts_forgotten_for_want_of_room_are_gone() -> None:
    line = entered(spent("end_user:new"), forgotten=(b"old",))

    assert [NAMES.account("end_user:old").account] in [t.arguments for t in line.told_of("UNLINK")]


def test_large_ranges_are_entered_in_pieces_in_order() -> None:
    users = [f"end_user:{n}" for n in range(APPLIED_AT_ONCE)]

    line = entered(spent("key:k", *users), entries=2 * COPIED_AT_ONCE + 1)

    assert len(line.told_of("apply")) == len(users) + 4
    copied = [told.arguments[2:] for told in line.told_of("spendlog")]
    assert [len(one) for one in copied] == [2 * COPIED_AT_ONCE, 2 * COPIED_AT_ONCE, 2]
    assert copied[2] == [b"%d-0" % (2 * COPIED_AT_ONCE + 1), b"blob %d" % (2 * COPIED_AT_ONCE + 1)]
    kinds = [told.what for told in line.told]
    assert kinds.index("heard") > max(i for i, kind in enumerate(kinds) if kind == "apply")
    assert kinds.index("spendlog") > kinds.index("heard")
