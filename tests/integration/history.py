"""What callers asked and were told, and a judge who looks at the whole of it afterwards."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from embedpool_shared.errors import PoolError
from integration.one_process import right, until

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from embedpool_shared.jobs import LedgerRecord
    from integration.one_process import ApiSide


class History:
    """The callers of one api; each asks one text after the other."""

    def __init__(self, api: ApiSide, *, patience_s: float = 30.0) -> None:
        self._api = api
        self._patience_s = patience_s
        self.asked: list[str] = []
        self.answered: dict[str, list[list[bytes]]] = {}
        self.refused: dict[str, PoolError] = {}

    async def ask_each(self, texts: Iterable[str]) -> None:
        """Ask these, one after the other; a typed error is an ending, too."""
        for text in texts:
            self.asked.append(text)
            try:
                vectors = await self._api.ask(text, patience_s=self._patience_s)
            except PoolError as error:
                self.refused[text] = error
            else:
                self.answered.setdefault(text, []).append(vectors)

    async def has_more(self, count: int) -> None:
        """Return when so many more answers are there."""
        enough = len(self.answered) + count
        await until(lambda: len(self.answered) >= enough, "answers keep coming")

    def check(self, count: int) -> None:
        """Every one of `count` requests was answered, once, with its own vector."""
        assert not self.refused
        assert len(self.asked) == count
        self.check_answers()
        assert set(self.answered) == set(self.asked)

    def check_answers(self) -> None:
        """Whatever was answered was answered once and right, and whatever was asked has ended."""
        wrong = [text for text, given in self.answered.items() if given != [right([text])]]
        assert not wrong
        assert {*self.answered, *self.refused} == set(self.asked)

    def check_bill(self, records: Sequence[LedgerRecord], *, is_complete: bool = True) -> None:
        """No job was billed twice, every answer was billed, and the columns balance."""
        billed = Counter((r.pack_id, r.number) for r in records if r.used)
        assert not [job for job, times in billed.items() if times > 1]
        if is_complete:
            assert len(billed) >= len(self.answered)
        for record in records:
            assert record.used + record.waste == record.paid + record.saved
