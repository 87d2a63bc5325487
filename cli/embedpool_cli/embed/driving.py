"""Runs the loop in which rows are embedded, and hears when it is to end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TextIO

from embedpool_cli.embed.budget import PICO, Budget
from embedpool_cli.embed.meter import Reading
from embedpool_cli.embed.pool_facts import Facts
from embedpool_cli.embed.progress import shown
from embedpool_cli.embed.run import Run, Terms
from embedpool_cli.embed.sender import Sender
from embedpool_cli.embed.source import Source
from embedpool_cli.embed.store import Store

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """Somebody asked for an end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drive:
    """Where to, and how hard."""

    address: str
    key: str = field(repr=False)
    facts: Facts
    dimensions: int | None
    batch: int
    concurrency: int
    patience_s: float
    max_usd: float | None
    dtype: str


def drive(how: Drive, source: Source, store: Store, errors: TextIO) -> None:
    """Embed every row that `store` does not have yet.

    Raises `Interrupted`, `Stopped`, `Broken` and `OSError`; what was done by then is in `store`.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        try:
            runner.run(_drive(how, source, store, errors))
        except asyncio.CancelledError:
            raise Interrupted from None


async def _drive(how: Drive, source: Source, store: Store, errors: TextIO) -> None:
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        if task is not None and signal.getsignal(number) != signal.SIG_IGN:
            loop.add_signal_handler(number, task.cancel)
    before = store.progress
    terms = Terms(
        batch=how.batch, concurrency=how.concurrency, patience_s=how.patience_s, dtype=how.dtype
    )
    sender = Sender(how.address, how.key, model=how.facts.model, dimensions=how.dimensions)
    async with sender:
        run = Run(sender, store, _budget(how, store), terms)

        def read(elapsed_s: float) -> Reading:
            return Reading(
                progress=run.progress,
                rows_before=before.rows_in,
                elapsed_s=elapsed_s,
                share=run.source_share if source.knows_its_size else None,
                share_before=run.share_before,
                trouble=run.trouble,
            )

        async with shown(read, errors):
            await run.run(source.blocks(skip=before.rows_in))


def _budget(how: Drive, store: Store) -> Budget:
    before, price = store.progress, how.facts.price_per_token_pico_usd
    if price is None and before.tokens:
        price = before.spent_pico_usd / before.tokens
    return Budget(
        most_pico_usd=None if how.max_usd is None else round(how.max_usd * PICO),
        price_per_token_pico_usd=price,
        spent_pico_usd=before.spent_pico_usd,
        tokens=before.tokens,
    )


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        # An extra of the api; without it everything works, a little slower.
        from uvloop import new_event_loop  # noqa: PLC0415
    except ModuleNotFoundError:
        return None
    return new_event_loop
