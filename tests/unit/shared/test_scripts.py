"""The Lua files as Redis is given them."""

from __future__ import annotations

import hashlib
import re
from importlib import resources

import pytest

from embedpool_shared import scripts
from embedpool_shared.scripts import script

TEXTS = {
    file.name.removesuffix(".lua"): file.read_text("utf-8")
    for file in resources.files(scripts).iterdir()
    if file.name.endswith(".lua")
}
STEPS = sorted(name for name, text in TEXTS.items() if text.startswith("#!lua"))


def test_a_file_included_is_part_of_the_script() -> None:
    source = script("admit").source

    assert TEXTS["minute"] in source
    assert "-- include" not in source


@pytest.mark.parametrize("name", STEPS)
def test_the_digest_is_that_of_all_redis_is_given(name: str) -> None:
    found = script(name)

    assert found.sha == hashlib.sha1(found.source.encode(), usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("name", STEPS)
def test_a_script_says_which_keys_and_arguments_it_takes(name: str) -> None:
    head = TEXTS[name].partition("\nlocal ")[0]

    assert re.search(r"^-- KEYS  ", head, re.MULTILINE)
    assert re.search(r"^-- ARGV  ", head, re.MULTILINE)


@pytest.mark.parametrize("name", sorted(TEXTS.keys() - set(STEPS)))
def test_a_file_that_is_no_script_is_included_somewhere(name: str) -> None:
    assert any(f"-- include {name}\n" in text for text in TEXTS.values())
