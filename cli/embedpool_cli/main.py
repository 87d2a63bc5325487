"""The `embedpool` command.

Exit codes: 0 ended as asked, 1 failed (`check` found the config unusable, the pool said no to
`key` or `batches`), 2 refused to start and said why, 130 interrupted.
"""

# ruff: noqa: PLC0415 - each command imports what it needs only when it runs: help is there at once

from __future__ import annotations

import os
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from embedpool_cli.arguments import parsed

if TYPE_CHECKING:
    from embedpool_cli.terminal import Terminal

EXIT_REFUSED: Final = 2
EXIT_INTERRUPTED: Final = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    options = parsed(sys.argv[1:] if arguments is None else arguments, os.environ, version=_version)
    try:
        return COMMANDS[options.command](options, os.environ)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except ModuleNotFoundError as error:
        if _is_ours(error.name or ""):
            raise
        return _refused(_missing(error.name or "", options.command))
    except Exception as error:
        from embedpool_shared.errors import ConfigInvalid

        if not isinstance(error, ConfigInvalid):
            raise
        return _refused(error.message)


def _serve(options: Namespace, environ: Mapping[str, str]) -> int:
    from embedpool_cli.data_directory import data_directory
    from embedpool_cli.plan import ServeOptions
    from embedpool_cli.serve import serve

    _log_to_stderr(environ)
    return serve(
        ServeOptions(
            config_path=options.config,
            host=options.host,
            port=options.port,
            workers=options.workers,
            api_processes=options.api_processes,
            data_directory=data_directory(options.data_dir, environ),
            allow_weak_master_key=options.allow_weak_master_key,
        ),
        environ,
        say=_say,
        announce=_announce,
    )


def _api(options: Namespace, environ: Mapping[str, str]) -> int:
    _end_when_asked()
    _log_to_stderr(environ)
    from embedpool_api.main import ApiOptions, run
    from embedpool_cli.identity import fresh_id
    from embedpool_cli.listening import listening_socket

    # Detached, because whoever is told the descriptor owns it.
    fd = options.fd
    if fd is None:
        fd = listening_socket(options.host, options.port).detach()
    run_options = ApiOptions(
        config_path=options.config,
        host=options.host,
        port=options.port,
        fd=fd,
        api_id=options.id or fresh_id("api"),
        allow_weak_master_key=options.allow_weak_master_key,
        grace_s=options.grace_s,
    )
    return run(run_options, environ)


def _worker(options: Namespace, environ: Mapping[str, str]) -> int:
    _end_when_asked()
    _log_to_stderr(environ)
    from embedpool_cli.identity import fresh_id
    from embedpool_worker.main import WorkerOptions, run

    run_options = WorkerOptions(
        config_path=options.config,
        worker_id=options.id or fresh_id("worker"),
        grace_s=options.grace_s,
        says_notices=not options.supervised,
    )
    return run(run_options, environ)


def _check(options: Namespace, environ: Mapping[str, str]) -> int:
    from embedpool_cli.check import check

    return check(options.path, environ, sys.stdout)


def _key(options: Namespace, environ: Mapping[str, str]) -> int:
    from embedpool_cli.key import run_key

    return _asked(run_key, options, environ)


def _batches(options: Namespace, environ: Mapping[str, str]) -> int:
    from embedpool_cli.batches import run_batches

    return _asked(run_batches, options, environ)


def _asked(
    run: Callable[[Namespace, Mapping[str, str], Terminal], int],
    options: Namespace,
    environ: Mapping[str, str],
) -> int:
    from embedpool_cli.terminal import Terminal

    terminal = Terminal(sys.stdout, sys.stderr, sys.stdin, is_interactive=sys.stdin.isatty())
    try:
        return run(options, environ, terminal)
    except BrokenPipeError:
        # Whoever reads has had enough (`| head`); Python would complain once more when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _embed(options: Namespace, environ: Mapping[str, str]) -> int:
    from embedpool_cli.embed.command import run_embed
    from embedpool_cli.terminal import Terminal

    terminal = Terminal(sys.stdout, sys.stderr, sys.stdin, is_interactive=sys.stdin.isatty())
    code = run_embed(options, environ, terminal)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


COMMANDS: Final[Mapping[str, Callable[[Namespace, Mapping[str, str]], int]]] = {
    "serve": _serve,
    "api": _api,
    "worker": _worker,
    "check": _check,
    "key": _key,
    "embed": _embed,
    "batches": _batches,
}


def _end_when_asked() -> None:
    """Make a stop signal a plain end: while we still start, and when uvicorn raises it again."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))


def _log_to_stderr(environ: Mapping[str, str]) -> None:
    from embedpool_shared.telemetry.journal import keep_journal

    keep_journal(environ)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("embedpool")
    except PackageNotFoundError:
        return "(not installed)"


def _is_ours(module: str) -> bool:
    return module.startswith("embedpool_")


def _missing(module: str, command: str) -> str:
    extra = command if command in {"api", "worker"} else "all"
    return (
        f"this installation cannot `{command}`: it lacks {module}; pip install 'embedpool[{extra}]'"
    )


def _refused(why: str) -> int:
    _say(why)
    return EXIT_REFUSED


def _say(text: str) -> None:
    print(f"embedpool: {text}", file=sys.stderr, flush=True)


def _announce(text: str) -> None:
    print(text, flush=True)
