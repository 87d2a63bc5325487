"""A pool for one run alone: `embedpool serve` on a free port of this machine, with data that go.

Invariants
- It ends with us, however we end; the kernel sees to it.
- It joins nobody else's Redis because one is named in the environment.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from embedpool_cli.children import child_command
from embedpool_cli.terminal import NotAsked

ADDRESS: Final = re.compile(r"http://127\.0\.0\.1:\d+")
START_PATIENCE_S: Final = 90.0
STOP_PATIENCE_S: Final = 15.0
LOG: Final = "serve.log"
FOREIGN: Final = (
    "REDIS_URL",
    "EMBEDPOOL_HOST",
    "EMBEDPOOL_PORT",
    "EMBEDPOOL_DATA_DIR",
    "EMBEDPOOL_FILES_URL",
)
FOREIGN_START: Final = "EMBEDPOOL_REDIS_"
QUIET: Final = {"EMBEDPOOL_LOG_LEVEL": "WARNING"}
"""Unless asked for: the log is read only where something went wrong."""
NO_METRICS: Final = {"EMBEDPOOL_METRICS_API_PORT": "0", "EMBEDPOOL_METRICS_WORKER_PORT": "0"}


@contextmanager
def local_pool(folder: Path, config: str | None, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the address of a pool whose data are in `folder`; raises `NotAsked`.

    The folder is made anew, and is gone afterwards.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    try:
        with (folder / LOG).open("wb") as log, _started(folder, config, environ, log) as serve:
            yield _address(serve, folder / LOG)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _started(
    folder: Path, config: str | None, environ: Mapping[str, str], log: BinaryIO
) -> Iterator[subprocess.Popen[bytes]]:
    flags = ["--host", "127.0.0.1", "--port", "0", "--data-dir", str(folder)]
    if config is not None:
        flags += ["--config", config]
    ours = {name: value for name, value in environ.items() if not _is_foreign(name)}
    own = QUIET | ours | NO_METRICS
    serve = subprocess.Popen(  # noqa: S603 (the command is our own)
        child_command("embedpool", "serve", *flags),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
        env=own,
        # Ctrl-C reaches only us: it ends when we have had its last answer.
        process_group=0,
    )
    try:
        yield serve
    finally:
        _end(serve)


def _address(serve: subprocess.Popen[bytes], log: Path) -> str:
    """Read the line in which it says where it is."""
    give_up = threading.Timer(START_PATIENCE_S, serve.terminate)
    give_up.start()
    try:
        line = serve.stdout.readline().decode(errors="replace") if serve.stdout else ""
    finally:
        give_up.cancel()
    found = ADDRESS.search(line)
    if found is None:
        words = log.read_text(errors="replace").splitlines() or ["it said nothing"]
        raise NotAsked(f"the local pool did not start: {words[-1].removeprefix('embedpool: ')}")
    return found[0]


def _end(serve: subprocess.Popen[bytes]) -> None:
    serve.terminate()
    try:
        serve.wait(STOP_PATIENCE_S)
    except subprocess.TimeoutExpired:
        serve.kill()
        serve.wait()
    if serve.stdout is not None:
        serve.stdout.close()


def _is_foreign(name: str) -> bool:
    return name in FOREIGN or name.startswith(FOREIGN_START)
