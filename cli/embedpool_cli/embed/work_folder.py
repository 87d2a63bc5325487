"""The folder beside OUT that holds a run until it is whole: whose it is, and what it is of.

Invariants
- One process at a time writes in it.
- What it holds is only ever continued by the same command on the same inputs.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import orjson

from embedpool_cli.embed.journal import sync_folder
from embedpool_cli.embed.order import Order, Output
from embedpool_cli.locked_file import is_locked_now, open_to_lock
from embedpool_cli.terminal import NotAsked

LOCK: Final = "lock"
COMMAND: Final = "command.json"
JOURNAL: Final = "journal"
REJECTS: Final = "rejects.jsonl"
POOL: Final = "pool"
LAYOUT: Final = "version"
WORDS: Final = {"inputs": "the inputs or their contents", "fields": "--field, --id or --carry"}
"""How a part of a command is called where its name alone would not say it."""


class WorkFolder:
    """The folder, ours alone until it is closed."""

    def __init__(self, output: Output) -> None:
        """Create and lock it; raises `NotAsked`, `OSError`."""
        self.path = Path(f"{output.path}.embedpool")
        self._output = output
        self.path.mkdir(exist_ok=True)
        self._fd = open_to_lock(self.path / LOCK)
        try:
            self._lock()
        except BaseException:
            os.close(self._fd)
            raise

    @property
    def has_command(self) -> bool:
        """Whether an earlier start has left something."""
        return (self.path / COMMAND).exists()

    @property
    def known_model(self) -> str | None:
        """The model of what an earlier start has left."""
        if not self.has_command:
            return None
        model = orjson.loads((self.path / COMMAND).read_bytes()).get("model")
        return model if isinstance(model, str) else None

    def claim(self, command: Mapping[str, Any], *, is_resumable: bool) -> None:
        """Take it for `command`, or go on with what the same command left; raises `NotAsked`."""
        if not self.has_command:
            self._write_command(command)
            return
        if not is_resumable:
            raise NotAsked(
                f"{self.path} holds an unfinished run, and standard input cannot be resumed: "
                "--restart throws it away"
            )
        before = orjson.loads((self.path / COMMAND).read_bytes())
        if before.get(LAYOUT) != command[LAYOUT]:
            raise NotAsked(
                f"{self.path} holds an unfinished run of another version of embedpool: "
                "finish it with that version, or throw it away with --restart"
            )
        other = [name for name in command if before.get(name) != command[name]]
        if other:
            said = ", ".join(WORDS.get(name, name) for name in other)
            raise NotAsked(
                f"{self.path} holds an unfinished run of another command ({said} differ): "
                "finish that one, name another OUT, or throw it away with --restart"
            )

    def empty(self) -> None:
        """Throw away what an earlier start has left; raises `OSError`."""
        self._remove_all_but(LOCK)

    def remove(self) -> None:
        """Remove the folder itself; raises `OSError`."""
        # The command last: until then whoever comes next sees whose the rest is.
        self._remove_all_but(LOCK, COMMAND)
        shutil.rmtree(self.path)

    def close(self) -> None:
        """Let others in; a folder in which nothing was begun goes."""
        if self.path.exists() and not self.has_command:
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._fd)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def _lock(self) -> None:
        if not is_locked_now(self._fd):
            raise NotAsked(f"another embedpool embed is writing {self._output.path}")

    def _write_command(self, command: Mapping[str, Any]) -> None:
        for path in _targets(self._output):
            if not path.absolute().parent.is_dir():
                raise NotAsked(f"there is no folder for {path}")
        taken = next((path for path in _targets(self._output) if path.exists()), None)
        if taken is not None:
            raise NotAsked(f"{taken} exists: remove it or name another")
        # The pool of this very run may be at work already.
        self._remove_all_but(LOCK, POOL)
        fresh = self.path / f"{COMMAND}.new"
        fresh.write_bytes(orjson.dumps(command, option=orjson.OPT_INDENT_2))
        fresh.rename(self.path / COMMAND)
        sync_folder(self.path)

    def _remove_all_but(self, *names: str) -> None:
        for entry in self.path.iterdir():
            if entry.name not in names:
                _remove(entry)


def command_of(
    order: Order, output: Output, *, model: str, dimensions: int | None
) -> dict[str, Any]:
    """Describe what makes two commands the same one; raises `OSError`."""
    fields = order.fields
    return {
        LAYOUT: 2,
        "inputs": [_described(one.path, one.format) for one in order.inputs],
        "fields": {"text": fields.text, "id": fields.id, "carry": list(fields.carry)},
        "model": model,
        "dimensions": dimensions,
        "format": output.format.value,
        "dtype": output.dtype,
        "shard_rows": output.shard_rows,
    }


def _described(path: str, kind: str) -> dict[str, Any]:
    if path == "-":
        return {"path": path, "format": kind}
    stat = os.stat(path)
    name = str(Path(path).resolve())
    return {"path": name, "format": kind, "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _targets(output: Output) -> tuple[Path, ...]:
    """List what must not exist before a run; an empty folder is none."""
    place = Path(output.path)
    is_empty = output.shard_rows is not None and place.is_dir() and not any(place.iterdir())
    places = () if is_empty else (place,)
    return places if output.rejects is None else (*places, Path(output.rejects))


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink()
