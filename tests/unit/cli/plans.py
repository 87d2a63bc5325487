"""Plans for tests, with small programs in place of `embedpool`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from embedpool_cli.listening import listening_socket
from embedpool_cli.plan import Plan, ServeOptions
from embedpool_shared.config.settings import Config

FAKE_EMBEDPOOL: Final = """
import json, signal, socket, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"data": [{"id": "fake-model"}], "wildcards": []}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass

if sys.argv[1] == "worker":
    signal.pause()
server = HTTPServer(("", 0), Answers, bind_and_activate=False)
server.socket.close()
server.socket = socket.socket(fileno=int(sys.argv[sys.argv.index("--fd") + 1]))
server.serve_forever()
"""


def fake_embedpool(*arguments: str) -> tuple[str, ...]:
    """Write the command line of a program that answers as an api, or waits as a worker."""
    return (sys.executable, "-I", "-c", FAKE_EMBEDPOOL, *arguments)


def bare_embedpool(*arguments: str) -> tuple[str, ...]:
    """Write a command line to look at."""
    return ("embedpool", *arguments)


@contextmanager
def planned(
    *, config: dict[str, Any] | None = None, data: Path = Path("/data"), **options: Any
) -> Iterator[Plan]:
    """Plan to serve at a free port; what a test leaves out has its default."""
    plain: dict[str, Any] = {
        "config_path": None,
        "host": "127.0.0.1",
        "port": 0,
        "workers": 1,
        "api_processes": 1,
        "data_directory": data,
        "allow_weak_master_key": False,
    }
    with listening_socket("127.0.0.1", 0) as listener:
        yield Plan(
            options=ServeOptions(**(plain | options)),
            config=Config.model_validate(config or {"redis": {"url": "redis://h"}}),
            environ={"OPENAI_API_KEY": "sk-canary"},
            listener=listener,
            say=lambda _: None,
            command=bare_embedpool,
        )
