"""The folder of a run is one process' at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedpool_cli.embed.order import Output, OutputFormat
from embedpool_cli.embed.work_folder import LAYOUT, WorkFolder
from embedpool_cli.terminal import NotAsked


def output_at(folder: Path) -> Output:
    path = str(folder / "out.jsonl")
    return Output(
        path=path, format=OutputFormat.JSONL, dtype="float32", shard_rows=None, rejects=None
    )


def test_while_somebody_writes_an_output_nobody_else_does(tmp_path: Path) -> None:
    output = output_at(tmp_path)

    with WorkFolder(output), pytest.raises(NotAsked, match=r"is writing .*out\.jsonl"):
        WorkFolder(output)

    WorkFolder(output).close()
    assert list(tmp_path.iterdir()) == []


def test_what_another_version_laid_out_is_not_continued(tmp_path: Path) -> None:
    with WorkFolder(output_at(tmp_path)) as work:
        work.claim({LAYOUT: 1, "model": "m"}, is_resumable=True)

        with pytest.raises(NotAsked, match=r"another version of embedpool: .* --restart"):
            work.claim({LAYOUT: 2, "model": "m"}, is_resumable=True)

        work.empty()
        work.claim({LAYOUT: 2, "model": "m"}, is_resumable=True)
