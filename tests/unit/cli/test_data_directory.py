from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from embedpool_cli.data_directory import LOCK, ClaimedDirectory, data_directory
from embedpool_shared.errors import ConfigInvalid


@pytest.mark.parametrize(
    ("flag", "environ", "expected"),
    [
        ("/x", {"EMBEDPOOL_DATA_DIR": "/y", "XDG_DATA_HOME": "/z"}, "/x"),
        (None, {"EMBEDPOOL_DATA_DIR": "/y", "XDG_DATA_HOME": "/z"}, "/y"),
        (None, {"XDG_DATA_HOME": "/z", "HOME": "/home/me"}, "/z/embedpool"),
        (
            None,
            {"XDG_DATA_HOME": "relative", "HOME": "/home/me"},
            "/home/me/.local/share/embedpool",
        ),
        (None, {"HOME": "/home/me"}, "/home/me/.local/share/embedpool"),
    ],
    ids=["flag", "environment", "XDG", "XDG must be absolute", "home"],
)
def test_the_directory_is_chosen_by_the_nearest_word(
    flag: str | None, environ: Mapping[str, str], expected: str
) -> None:
    assert data_directory(flag, environ) == Path(expected)


def test_a_relative_flag_means_where_we_are_now() -> None:
    assert data_directory("data", {}) == Path.cwd() / "data"


def test_it_is_created_for_its_owner_alone(tmp_path: Path) -> None:
    with ClaimedDirectory(tmp_path / "a" / "b") as claimed:
        assert claimed.path.stat().st_mode & 0o777 == 0o700
        assert (claimed.path / LOCK).stat().st_mode & 0o777 == 0o600


def test_a_second_server_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    with ClaimedDirectory(tmp_path), pytest.raises(ConfigInvalid) as refusal:
        ClaimedDirectory(tmp_path)

    assert f"process {os.getpid()}" in refusal.value.message
    assert "--data-dir" in refusal.value.message


def test_it_can_be_claimed_again_when_the_first_server_has_ended(tmp_path: Path) -> None:
    ClaimedDirectory(tmp_path).close()

    with ClaimedDirectory(tmp_path) as again:
        assert (tmp_path / LOCK).read_text() == str(os.getpid())
        assert again.path == tmp_path


def test_a_store_that_inherited_the_lock_is_waited_for(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    claimed = ClaimedDirectory(tmp_path)
    heir = subprocess.Popen(["sleep", "60"], pass_fds=(claimed.fd,))
    claimed.close()
    (tmp_path / LOCK).write_text(str(gone.pid))
    ending = subprocess.Popen(
        [sys.executable, "-ISc", f"import os, signal; os.kill({heir.pid}, {int(signal.SIGTERM)})"]
    )

    with ClaimedDirectory(tmp_path):
        assert heir.wait(timeout=5) == -signal.SIGTERM

    assert ending.wait(timeout=5) == 0


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_what_cannot_be_a_directory_is_named_together_with_the_way_out(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigInvalid, match=r"file.*--data-dir"):
        ClaimedDirectory(tmp_path / name)
