"""Whose files and batches a caller sees: its team's, else its own; the master key sees all. Pure.

What belongs to others is answered like what does not exist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedpool_shared.batches import owner_of
from embedpool_shared.errors import NotFound

if TYPE_CHECKING:
    from embedpool_api.callers import Caller


def owner(caller: Caller) -> str:
    """Say whose the files and batches are that this caller makes."""
    return owner_of(caller.account, caller.identity.key.team_id if caller.identity else None)


def lists_of(caller: Caller) -> str | None:
    """Say whose files and batches this caller is shown; None is everybody's."""
    return None if caller.is_admin else owner(caller)


def may_touch(caller: Caller, owned_by: str) -> bool:
    """Say whether this caller may see and change what belongs to `owned_by`."""
    return caller.is_admin or owner(caller) == owned_by


def no_file(file_id: str, *, param: str = "file_id") -> NotFound:
    """Say that there is no such file, or none that the caller may know of."""
    return NotFound(f"There is no file {file_id[:64]!r}", param=param)


def no_batch(batch_id: str) -> NotFound:
    """Say that there is no such batch, or none that the caller may know of."""
    return NotFound(f"There is no batch {batch_id[:64]!r}", param="batch_id")
