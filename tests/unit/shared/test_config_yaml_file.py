"""One file, and those it includes, become one mapping."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedpool_shared.config.yaml_file import read_yaml
from embedpool_shared.errors import ConfigInvalid


def wrote(folder: Path, **files: str) -> str:
    """Write `name.yaml` for each; return the path of main.yaml."""
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return str(folder / "main.yaml")


def test_an_included_list_goes_on_and_anything_else_replaces(tmp_path: Path) -> None:
    main = wrote(
        tmp_path,
        main="include: [a.yaml, b.yaml]\nmodel_list: [1]\npool: {linger_ms: 1, lease_s: 2}",
        a="model_list: [2]\npool: {linger_ms: 3}",
        b="model_list: [4]\nfiles: {}",
    )

    tree, notices = read_yaml(main)

    assert tree == {"model_list": [1, 2, 4], "pool": {"linger_ms": 3}, "files": {}}
    assert notices == []


def test_an_included_file_may_include_others_beside_it(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "b.yaml").write_text("model_list: [b]")
    (tmp_path / "more" / "a.yaml").write_text("include: b.yaml\nmodel_list: [a]")

    assert read_yaml(wrote(tmp_path, main="include: [more/a.yaml]"))[0] == {
        "model_list": ["a", "b"]
    }


def test_files_that_include_each_other_are_read_once(tmp_path: Path) -> None:
    main = wrote(
        tmp_path,
        main="include: [a.yaml]\nmodel_list: [1]",
        a="include: [main.yaml]\nmodel_list: [2]",
    )

    assert read_yaml(main)[0] == {"model_list": [1, 2]}


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"main": "include: [gone.yaml]"}, r"include: .*gone\.yaml: cannot be read: No such file"),
        ({"main": "include: [a.yaml]", "a": "x: ["}, r"include: .*a\.yaml: is not valid YAML"),
        ({"main": "include: [a.yaml]", "a": "- x"}, r"include: .*a\.yaml: should hold settings"),
        ({"main": "include: [3]"}, "include: should be a list of file names"),
        ({"main": "include: {a: b}"}, "include: should be a list of file names"),
    ],
)
def test_what_cannot_be_included_is_named(
    tmp_path: Path, files: dict[str, str], problem: str
) -> None:
    with pytest.raises(ConfigInvalid, match=problem):
        read_yaml(wrote(tmp_path, **files))


def test_a_null_includes_nothing(tmp_path: Path) -> None:
    assert read_yaml(wrote(tmp_path, main="include:\npool: {}"))[0] == {"pool": {}}


def test_a_name_written_twice_in_an_included_file_is_warned_of(tmp_path: Path) -> None:
    _, (notice,) = read_yaml(wrote(tmp_path, main="include: [a.yaml]", a="x: 1\nx: 2"))

    assert notice.path == "x"
