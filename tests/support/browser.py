"""A real browser: Debian's Chromium, driven by Playwright, which brings no browser of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from playwright.sync_api import Browser, BrowserContext, Page, Response, sync_playwright

from support.tools import tool

_FLAGS: Final = (
    "--no-sandbox",  # tests may run as root, where Chromium has none
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",  # it would look up hosts of its maker's
    "--disable-component-update",
    "--disable-sync",
)
_REMEMBER_VIOLATIONS: Final = """
    window.violations = [];
    document.addEventListener("securitypolicyviolation", (event) =>
        window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium; without it the test is skipped, and fails where CI is set."""
    program = tool("chromium", package="chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*_FLAGS])
        yield browser
        browser.close()


@dataclass
class Visit:
    """A page that somebody looks at, and what the browser complained about meanwhile."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    @property
    def violations(self) -> list[str]:
        """What the page's policy forbade so far."""
        told: list[str] = self.page.evaluate("window.violations")
        return told + [it for it in self.complaints if "Content Security Policy" in it]


@contextmanager
def visit(browser: Browser, url: str, **options: Any) -> Iterator[Visit]:
    """Open `url` in a browser profile of its own; `options` are Playwright's for a context."""
    context = browser.new_context(**options)
    context.set_default_timeout(10_000)
    try:
        yield _opened(context, url)
    finally:
        context.close()


def _opened(context: BrowserContext, url: str) -> Visit:
    context.add_init_script(_REMEMBER_VIOLATIONS)
    seen = Visit(context.new_page())

    def answered(response: Response) -> None:
        seen.asked.append(response.url)

    seen.page.on("console", lambda message: seen.complaints.append(message.text))
    seen.page.on("pageerror", lambda error: seen.complaints.append(f"uncaught {error}"))
    seen.page.on("response", answered)
    seen.page.goto(url)
    return seen
