"""A real browser, for tests of pages that people look at."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright

__all__ = ["chromium", "heard"]

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Nobody else's pages are shown, and root may not use the sandbox at all.
OPTIONS = ("--no-sandbox", "--autoplay-policy=no-user-gesture-required")


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """The machine's own Chromium, headless; the test is skipped where there is none."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("needs a browser: install Debian's chromium, or Chrome")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=list(OPTIONS))
        try:
            yield browser
        finally:
            await browser.close()


@contextmanager
def heard(page: Page) -> Iterator[list[str]]:
    """Errors and warnings of the page's console, and errors nobody caught."""
    complaints: list[str] = []

    def take(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    page.on("console", take)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield complaints
