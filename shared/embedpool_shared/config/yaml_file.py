"""The YAML file, and those it includes, as plain dictionaries, lists and scalars."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml
from typing_extensions import override

from embedpool_shared.config.credentials import with_credentials
from embedpool_shared.config.notices import Notice, warning
from embedpool_shared.errors import ConfigInvalid

INCLUDE: Final = "include"
TIMESTAMP: Final = "tag:yaml.org,2002:timestamp"


class _Loader(yaml.SafeLoader):
    """Reads dates as text (`api_version: 2024-02-01`) and notices a name written twice."""

    repeated: list[tuple[str, int]]

    @override
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping; of a name written twice the last value counts, as everywhere."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:merge" and isinstance(key.value, str):
                if key.value in seen:
                    self.repeated.append((key.value, key.start_mark.line + 1))
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != TIMESTAMP]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(file: str) -> tuple[dict[str, Any], list[Notice]]:
    """Read `file` and what it includes as one mapping, named credentials filled in.

    As in LiteLLM, a list in an included file continues the same list, and anything else replaces
    what was there. Raises `ConfigInvalid`.
    """
    whole: dict[str, Any] = {}
    notices: list[Notice] = []
    waiting, seen = [Path(file)], set[Path]()
    while waiting:
        path = waiting.pop(0)
        if path.resolve() in seen:
            continue
        seen.add(path.resolve())
        tree, said = _read(path, is_included=len(seen) > 1)
        waiting += [path.parent / name for name in _included(tree.pop(INCLUDE, None))]
        whole = _continued(whole, tree)
        notices += said
    filled, remarks = with_credentials(whole)
    return filled, [*notices, *remarks]


def _included(names: object) -> list[str]:
    listed = [names] if isinstance(names, str) else names or []
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise ConfigInvalid("include: should be a list of file names")
    return listed


def _continued(whole: dict[str, Any], tree: dict[str, Any]) -> dict[str, Any]:
    lists = {
        name: [*whole[name], *part]
        for name, part in tree.items()
        if isinstance(part, list) and isinstance(whole.get(name), list)
    }
    return {**whole, **tree, **lists}


def _read(path: Path, *, is_included: bool) -> tuple[dict[str, Any], list[Notice]]:
    try:
        return _parsed(_text(path))
    except ConfigInvalid as error:
        where = f"include: {path}: " if is_included else ""
        raise ConfigInvalid(f"{where}{error.message}") from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigInvalid(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigInvalid(f"is not UTF-8 text (byte {error.start})") from None


def _parsed(text: str) -> tuple[dict[str, Any], list[Notice]]:
    loader = _Loader(text)
    loader.repeated = []
    try:
        tree = loader.get_single_data()
    except yaml.YAMLError as error:
        raise ConfigInvalid(_place(error)) from None
    except (RecursionError, TypeError, ValueError):
        raise ConfigInvalid("is not usable YAML: a value nobody can read") from None
    finally:
        loader.dispose()
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ConfigInvalid("should hold settings by name (`model_list:` …) at its top")
    return tree, [
        warning(name, f"written again in line {line}; only the last one counts")
        for name, line in loader.repeated
    ]


def _place(error: yaml.YAMLError) -> str:
    """Say where, and not what is written there: it may be a key."""
    mark = getattr(error, "problem_mark", None)
    where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return f"is not valid YAML{where}; look for wrong indentation, tabs or a missing quote"
