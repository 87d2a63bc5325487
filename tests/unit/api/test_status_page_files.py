"""Nothing can run in the page but its own script, which writes text and never markup."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from embedpool_api import status
from embedpool_api.status.page_files import CONTENT_SECURITY_POLICY, SHELL, page_files

FILES = page_files()


def text(name: str) -> str:
    return FILES[name].body.decode()


def test_every_file_of_the_page_is_served() -> None:
    folder = resources.files(status).joinpath("page")

    assert {it.name for it in folder.iterdir()} == FILES.keys()


def test_the_policy_lets_in_nothing_from_elsewhere() -> None:
    rules = dict(rule.split(" ", 1) for rule in CONTENT_SECURITY_POLICY.split("; "))

    assert rules == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self' data:",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
    }


@pytest.mark.parametrize("name", FILES)
def test_every_file_comes_with_the_policy(name: str) -> None:
    headers = FILES[name].headers

    assert headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_the_shell_has_no_script_and_no_style_of_its_own() -> None:
    shell = text(SHELL)

    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", shell)
    assert re.findall(r"<script[^>]*>(.*?)</script>", shell, re.DOTALL) == [""]


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_loaded_from_elsewhere(name: str) -> None:
    found = re.findall(r"(?:https?:)?//[\w.-]+\.\w+", text(name))

    assert set(found) <= {"http://www.w3.org"}  # the name of SVG


def test_the_script_makes_no_markup_and_no_code_of_what_it_is_sent() -> None:
    forbidden = (
        r"innerHTML|outerHTML\s*=|insertAdjacentHTML|document\.write|eval\(|Function\(|\.style\b"
    )

    assert not re.search(forbidden, text("page.js"))


def test_the_shell_holds_no_data() -> None:
    assert "{{" not in text(SHELL)
    assert "{%" not in text(SHELL)
