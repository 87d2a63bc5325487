"""`embedpool embed`: files of texts in, files of vectors out.

Exit codes: 0 every row is in OUT or rejected, 1 it is not (the same command goes on), 2 nothing was
started, 130 interrupted (the same command goes on).
"""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from embedpool_cli.embed.asking import Stopped
from embedpool_cli.embed.caller_key import caller_key
from embedpool_cli.embed.completion import Completion
from embedpool_cli.embed.driving import Drive, Interrupted, drive
from embedpool_cli.embed.dry_run import counted, said
from embedpool_cli.embed.lines import Broken
from embedpool_cli.embed.local_pool import local_pool
from embedpool_cli.embed.meter import balance
from embedpool_cli.embed.order import Order, Output, order_of, streams_said
from embedpool_cli.embed.pool_facts import Facts, facts_of
from embedpool_cli.embed.source import Source, source_of
from embedpool_cli.embed.store import FolderStore, StreamStore
from embedpool_cli.embed.typed_columns import Typing
from embedpool_cli.embed.work_folder import POOL, WorkFolder, command_of
from embedpool_cli.pool_client import PoolClient, Refused, Unreachable
from embedpool_cli.terminal import NotAsked, Terminal
from embedpool_shared.memory import settle_memory

UNFINISHED: Final = 1
NOT_STARTED: Final = 2
INTERRUPTED: Final = 130
GO_ON: Final = "the same command goes on from here"
NOT_THE_KEY: Final = "; the key is read from EMBEDPOOL_API_KEY or --key-file"


def run_embed(options: Namespace, environ: Mapping[str, str], terminal: Terminal) -> int:
    """Embed, or count; return the exit code."""
    try:
        order = order_of(options)
        one = _Embed(options, environ, terminal, order, source_of(order))
        if order.output is None:
            return one.dry_run()
        settle_memory()
        if order.output.is_stream:
            return one.to_stream(order.output)
        return one.to_files(order.output)
    except Refused as error:
        terminal.say(f"{error.message}{NOT_THE_KEY if error.status == 401 else ''}")
    except (NotAsked, Unreachable, Broken) as error:
        terminal.say(str(error))
    except OSError as error:
        terminal.say(_words(error))
    return NOT_STARTED


class _Embed:
    """One start of the command."""

    def __init__(
        self,
        options: Namespace,
        environ: Mapping[str, str],
        terminal: Terminal,
        order: Order,
        source: Source,
    ) -> None:
        self._options = options
        self._environ = environ
        self._terminal = terminal
        self._order = order
        self._source = source
        self._key = caller_key(options.key_file, environ)

    def dry_run(self) -> int:
        """Say what a run would be."""
        with tempfile.TemporaryDirectory(prefix="embedpool-") as folder:
            facts: Facts | None
            try:
                with self._pool(Path(folder) / POOL) as address:
                    facts = self._facts(address, self._options.model)
            except (Unreachable, NotAsked) as error:
                self._terminal.say(str(error))
                facts = None
        print(said(counted(self._source), facts), file=self._terminal.out, flush=True)
        return 0

    def to_stream(self, output: Output) -> int:
        """Write lines to standard output."""
        self._terminal.say(self._not_resumable())
        with ExitStack() as ends:
            folder = ends.enter_context(tempfile.TemporaryDirectory(prefix="embedpool-"))
            rejects: BinaryIO = self._terminal.errors.buffer
            if output.rejects is not None:
                rejects = ends.enter_context(Path(output.rejects).open("xb"))
            store = StreamStore(output, self._terminal.out.buffer, rejects)
            address = ends.enter_context(self._pool(Path(folder) / POOL))
            facts = self._facts(address, self._options.model)
            code = self._driven(self._drive(address, facts), store, again="")
            if not code:
                self._terminal.say(balance(store.progress, rejects=output.rejects or "above"))
            return code

    def to_files(self, output: Output) -> int:
        """Write OUT, or go on writing it."""
        with WorkFolder(output) as folder:
            if self._options.restart:
                folder.empty()
            before = folder.known_model
            if before is not None:
                # Now, because a run that only has to be put in its place needs no pool.
                self._claim(folder, output, self._options.model or before)
            store = FolderStore(folder, output) if before is not None else None
            if store is None or not store.progress.is_complete:
                store, code = self._embedded(folder, output, store)
                if code:
                    return code
            return self._finished(folder, output, store)

    def _embedded(
        self, folder: WorkFolder, output: Output, store: FolderStore | None
    ) -> tuple[FolderStore, int]:
        with self._pool(folder.path / POOL) as address:
            facts = self._facts(address, self._options.model or folder.known_model)
            if store is None:
                self._claim(folder, output, facts.model)
                store = FolderStore(folder, output)
            if not self._order.is_resumable:
                self._terminal.say(self._not_resumable())
            elif store.progress.rows_in:
                self._terminal.say(f"going on after {store.progress.rows_in:,} rows")
            again = GO_ON if self._order.is_resumable else ""
            code = self._driven(self._drive(address, facts), store, again=again)
        if not code:
            store.note(is_complete=True)
        return store, code

    def _finished(self, folder: WorkFolder, output: Output, store: FolderStore) -> int:
        names = self._order.fields.column_names
        typing = Typing(names, store.progress.kinds, self._source.typed_schema)
        model = folder.known_model or ""
        try:
            Completion(folder.path, output, typing, model=model).finish(store)
        except (OSError, Broken) as error:
            self._terminal.say(f"{_words(error)}; every vector is in {folder.path}: {GO_ON}")
            return UNFINISHED
        except KeyboardInterrupt:
            self._terminal.say(f"interrupted; every vector is in {folder.path}: {GO_ON}")
            return INTERRUPTED
        finally:
            store.close()
        folder.remove()
        self._terminal.say(balance(store.progress, rejects=output.rejects or ""))
        return 0

    def _driven(self, how: Drive, store: FolderStore | StreamStore, *, again: str) -> int:
        code = UNFINISHED
        try:
            drive(how, self._source, store, self._terminal.errors)
        except Interrupted:
            why, code = "interrupted", INTERRUPTED
        except (Stopped, Broken) as error:
            why = str(error)
        except OSError as error:
            why = _words(error)
        else:
            return 0
        kept = store.progress
        told = f"{why}; {kept.rows_in:,} rows are done ({kept.rejected:,} of them rejected)"
        self._terminal.say(f"{told}; {again}" if again else told)
        return code

    @contextmanager
    def _pool(self, folder: Path) -> Iterator[str]:
        if self._options.local:
            with local_pool(folder, self._options.config, self._environ) as address:
                yield address
        else:
            yield self._options.url

    def _facts(self, address: str, model: str | None) -> Facts:
        return facts_of(PoolClient(address, self._key), model)

    def _drive(self, address: str, facts: Facts) -> Drive:
        options = self._options
        return Drive(
            address=address,
            key=self._key,
            facts=facts,
            dimensions=options.dimensions,
            batch=options.batch,
            concurrency=options.concurrency,
            patience_s=options.patience_s,
            max_usd=options.max_usd,
            dtype=options.dtype,
        )

    def _claim(self, folder: WorkFolder, output: Output, model: str) -> None:
        command = command_of(self._order, output, model=model, dimensions=self._options.dimensions)
        folder.claim(command, is_resumable=self._order.is_resumable)

    def _not_resumable(self) -> str:
        streams = " and ".join(streams_said(self._order))
        return f"{streams} cannot be resumed: this run has to finish in one go"


def _words(error: OSError | Broken) -> str:
    if isinstance(error, Broken):
        return str(error)
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"
