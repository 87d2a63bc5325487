"""The YAML file as plain dictionaries, lists and scalars."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml
from typing_extensions import override

from embedpool_shared.config.notices import Notice, warning
from embedpool_shared.errors import ConfigInvalid

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
    """Read `file` as one mapping; raises `ConfigInvalid`."""
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigInvalid(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigInvalid(f"is not UTF-8 text (byte {error.start})") from None
    return _parsed(text)


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
