"""A secret that is made once, kept, and read by its owner alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from embedpool_cli.secret_file import FILE_NAME, kept_secret
from embedpool_shared.errors import ConfigInvalid

SEVERAL = 8
MAKE_ONE = """
import sys
from pathlib import Path
from embedpool_cli.secret_file import kept_secret
sys.stdin.read()
print(kept_secret(Path(sys.argv[1])))
"""


def written(directory: Path, content: bytes, mode: int = 0o600) -> Path:
    path = directory / FILE_NAME
    path.write_bytes(content)
    path.chmod(mode)
    return path


def why_not(directory: Path) -> str:
    with pytest.raises(ConfigInvalid) as refusal:
        kept_secret(directory)
    return refusal.value.message


def test_it_is_made_once_and_read_back_later(tmp_path: Path) -> None:
    first = kept_secret(tmp_path)

    assert kept_secret(tmp_path) == first
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_it_is_long_random_and_another_one_elsewhere(tmp_path: Path) -> None:
    secrets = {kept_secret(tmp_path / str(n)) for n in range(5)}

    assert len(secrets) == 5
    assert all(len(secret) >= 43 for secret in secrets)


def test_it_is_its_owners_alone_and_so_is_a_directory_made_for_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        kept_secret(tmp_path / "a" / "b")
    finally:
        os.umask(before)

    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "a" / "b" / FILE_NAME).stat().st_mode & 0o777 == 0o600


def test_servers_that_make_one_at_the_same_time_have_the_same(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MAKE_ONE, str(tmp_path)]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    makers = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ
        )
        for _ in range(SEVERAL)
    ]
    for maker in makers:
        assert maker.stdin is not None
        maker.stdin.close()
        maker.stdin = None

    made = {maker.communicate(timeout=30)[0] for maker in makers}

    assert made == {f"{kept_secret(tmp_path)}\n"}
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_one_that_was_put_there_by_hand_is_used(tmp_path: Path) -> None:
    written(tmp_path, b"  a-secret-of-many-letters\n")

    assert kept_secret(tmp_path) == "a-secret-of-many-letters"


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o604, 0o602, 0o777])
def test_one_that_others_may_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path, b"canary-of-many-letters", mode)

    message = why_not(tmp_path)

    assert f"chmod 600 {path}" in message
    assert "EMBEDPOOL_SECRET" in message
    assert "canary" not in message


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"canary", "shorter than 16"),
        (b"canary-of-many-letters\nand another line", "one line"),
        (b"canary-of-many-letters\x00", "one line"),
        (b"canary-of-many-letters\xff", "one line"),
        (b"canary" * 1_000, "one line"),
    ],
)
def test_what_is_no_secret_is_refused_and_not_replaced(
    tmp_path: Path, content: bytes, why: str
) -> None:
    path = written(tmp_path, content)

    message = why_not(tmp_path)

    assert why in message
    assert "canary" not in message
    assert path.read_bytes() == content


def test_one_that_cannot_be_read_is_named_together_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).symlink_to(FILE_NAME)

    assert f"{tmp_path / FILE_NAME} (" in why_not(tmp_path)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, make: object) -> None:
    assert callable(make)
    make(tmp_path / FILE_NAME)

    assert "EMBEDPOOL_SECRET" in why_not(tmp_path)


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    assert "--data-dir" in why_not(tmp_path / "file" / "below")
