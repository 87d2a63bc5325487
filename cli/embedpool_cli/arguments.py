"""What can be said on the command line and in its environment names. Pure."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from typing_extensions import override

from embedpool_cli.batches_arguments import add_batches_actions
from embedpool_cli.embed_arguments import add_embed
from embedpool_cli.key_arguments import add_key_actions

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 4_000
DEFAULT_GRACE_S: Final = 25.0
MAX_PROCESSES: Final = 256

EPILOG: Final = """\
Without a config: the model wordllama, and every embedding model whose provider's key is in the
environment. `embedpool <command> --help` tells more.
"""


def parsed(
    arguments: Sequence[str], environ: Mapping[str, str], *, version: Callable[[], str]
) -> argparse.Namespace:
    """Read the command line; ends the process with 2 and a reason where it cannot be read."""
    parser = argparse.ArgumentParser(
        prog="embedpool",
        description="Packs many callers' embedding requests into few provider calls.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, version_of=version)
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    _add_serve(commands, environ)
    _add_api(commands, environ)
    _add_worker(commands)
    _add_check(commands)
    add_key_actions(_command(commands, "key", "a running pool's virtual keys"), environ)
    add_embed(_command(commands, "embed", "files of texts in, files of vectors out"), environ)
    add_batches_actions(_command(commands, "batches", "a running pool's batches"), environ)
    return parser.parse_args(arguments)


def _add_serve(commands: Any, environ: Mapping[str, str]) -> None:
    serve = _command(commands, "serve", "api, workers and, unless one is named, a Valkey, in one")
    _add_config(serve)
    _add_address(serve, environ)
    serve.add_argument(
        "--workers",
        "--num_workers",
        type=_count,
        default=1,
        metavar="N",
        help="worker processes (1)",
    )
    serve.add_argument(
        "--api-processes", type=_count, default=1, metavar="N", help="api processes (1)"
    )
    serve.add_argument(
        "--data-dir",
        metavar="DIR",
        help="where the embedded Valkey keeps its data "
        "(EMBEDPOOL_DATA_DIR, else ~/.local/share/embedpool)",
    )


def _add_api(commands: Any, environ: Mapping[str, str]) -> None:
    api = _command(commands, "api", "the HTTP side alone; needs a Redis")
    _add_config(api)
    _add_address(api, environ)
    # What `serve` tells its children.
    api.add_argument("--fd", type=int, help=argparse.SUPPRESS)
    _add_identity(api)


def _add_worker(commands: Any) -> None:
    worker = _command(commands, "worker", "the calling side alone; needs a Redis")
    _add_config(worker)
    _add_identity(worker)


def _add_check(commands: Any) -> None:
    check = _command(commands, "check", "say what a config means and what of it is ignored")
    check.add_argument("path", nargs="?", metavar="CONFIG", help="the file (EMBEDPOOL_CONFIG)")


def _command(commands: Any, name: str, summary: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=summary[0].upper() + summary[1:] + ".", allow_abbrev=False
    )
    return command


def _add_config(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--config", metavar="FILE", help="in the layout of LiteLLM's proxy (EMBEDPOOL_CONFIG)"
    )


def _add_identity(command: argparse.ArgumentParser) -> None:
    command.add_argument("--id", help=argparse.SUPPRESS)
    command.add_argument("--grace-s", type=float, default=DEFAULT_GRACE_S, help=argparse.SUPPRESS)
    command.add_argument("--supervised", action="store_true", help=argparse.SUPPRESS)


def _add_address(command: argparse.ArgumentParser, environ: Mapping[str, str]) -> None:
    command.add_argument(
        "--host",
        default=_environment(environ, "EMBEDPOOL_HOST") or DEFAULT_HOST,
        help=f"the address to listen on (EMBEDPOOL_HOST, else {DEFAULT_HOST})",
    )
    command.add_argument(
        "--port",
        type=_port,
        # A default that is text goes through `type` as well.
        default=_environment(environ, "EMBEDPOOL_PORT") or DEFAULT_PORT,
        metavar="N",
        help=f"the port, 0 for a free one (EMBEDPOOL_PORT, else {DEFAULT_PORT})",
    )
    command.add_argument(
        "--allow-weak-master-key",
        action="store_true",
        help="listen beyond this machine even with a well-known or very short master key",
    )


def _environment(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "")
    # Kubernetes sets EMBEDPOOL_PORT=tcp://… for a service called embedpool.
    return "" if "://" in value else value


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"should be a number from 0 to 65535, not {text!r}")
    return int(text)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text) <= MAX_PROCESSES:
        raise argparse.ArgumentTypeError(
            f"should be a number from 1 to {MAX_PROCESSES}, not {text!r}"
        )
    return int(text)


class _Version(argparse.Action):
    """Prints the version; argparse's own would have to know it before anybody asks."""

    def __init__(self, version_of: Callable[[], str], **options: Any) -> None:
        super().__init__(nargs=0, default=argparse.SUPPRESS, help="print the version", **options)
        self._version_of = version_of

    @override
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"embedpool {self._version_of()}")
        parser.exit()
