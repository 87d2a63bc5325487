"""What people see of a run while it lasts, and the words for its end. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from embedpool_cli.embed.budget import dollars
from embedpool_cli.embed.journal import Progress

BAR_CELLS: Final = 24
MIN_SHARE: Final = 0.001
"""Of less than that nothing is foretold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One look at a run."""

    progress: Progress
    rows_before: int  # kept by earlier starts
    elapsed_s: float
    share: float | None  # of all inputs; None: their size is unknown
    share_before: float = 0.0  # when this start kept its first row
    trouble: str = ""  # why it stands still

    @property
    def rows_per_s(self) -> float:
        """How fast this start is."""
        return (self.progress.rows_in - self.rows_before) / max(self.elapsed_s, 1e-3)

    @property
    def left_s(self) -> float | None:
        """How long it will take if it goes on like this."""
        if self.share is None or self.share - self.share_before < MIN_SHARE:
            return None
        return self.elapsed_s * (1 - self.share) / (self.share - self.share_before)


def line(reading: Reading) -> str:
    """Say in one line how far a run is."""
    now = reading.progress
    parts = [
        f"{now.rows_in:,} rows",
        f"{reading.rows_per_s:,.0f} texts/s",
        f"{now.tokens:,} tokens",
        dollars(now.spent_pico_usd),
    ]
    if now.rejected:
        parts.append(f"{now.rejected:,} rejected")
    if reading.left_s is not None:
        parts.append(f"{duration(reading.left_s)} left")
    if reading.trouble:
        parts.append(f"waiting: {reading.trouble}")
    if reading.share is not None:
        parts.insert(0, f"{reading.share:4.0%}")
    return " · ".join(parts)


def bar(reading: Reading, width: int) -> str:
    """Say it with a bar, in at most `width` letters."""
    if reading.share is None:
        return line(reading)[:width]
    full = round(BAR_CELLS * reading.share)
    return f"[{'#' * full}{'.' * (BAR_CELLS - full)}] {line(reading)}"[:width]


def balance(progress: Progress, *, rejects: str) -> str:
    """Say where every row is."""
    where = f" ({rejects})" if progress.rejected else ""
    return (
        f"{progress.rows_in:,} rows in = {progress.rows_out:,} out + "
        f"{progress.rejected:,} rejected{where} · {progress.tokens:,} tokens · "
        f"{dollars(progress.spent_pico_usd)}"
    )


def duration(seconds: float) -> str:
    """Write a time as people say it."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
