"""The folder of a run is one process' at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedpool_cli.embed.order import Output, OutputFormat
from embedpool_cli.embed.work_folder import WorkFolder
from embedpool_cli.terminal import NotAsked


def test_while_somebody_writes_an_output_nobody_else_does(tmp_path: Path) -> None:
    path = str(tmp_path / "out.jsonl")
    output = Output(
        path=path, format=OutputFormat.JSONL, dtype="float32", shard_rows=None, rejects=None
    )

    with WorkFolder(output), pytest.raises(NotAsked, match=r"is writing .*out\.jsonl"):
        WorkFolder(output)

    WorkFolder(output).close()
    assert list(tmp_path.iterdir()) == []
