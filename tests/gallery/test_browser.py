"""The page in a real browser: Debian's Chromium, driven by playwright."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field

from tests.gallery.making import NASTY, NOW, make_batch
from wanasync import Config, PaceSample, WanSession
from wanasync.edges.journal import Journal
from wanasync.emulator import Emulator, Trouble
from wanasync.gallery import Gallery, write_report

playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.async_playwright", reason="axe-playwright-python is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")

QUIETLY = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
PATIENCE = 15_000
WATCH_LONG_TASKS = """
window.longest = 0;
new PerformanceObserver((seen) => {
  for (const task of seen.getEntries()) window.longest = Math.max(window.longest, task.duration);
}).observe({ entryTypes: ["longtask"] });
"""


@define
class Seen:
    """What a page did besides showing itself."""

    errors: list[str] = field(factory=list)
    outside: list[str] = field(factory=list)

    def watch(self, page: Any) -> None:
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self._requested(request.url))

    def _requested(self, url: str) -> None:
        if not url.startswith(("file:", "data:", "http://127.0.0.1:")):
            self.outside.append(url)


@asynccontextmanager
async def opened(address: str, **options: Any) -> AsyncIterator[Any]:
    """The page, in a browser of its own; nothing may be complained of, and nothing asked for elsewhere."""
    seen = Seen()
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=QUIETLY)
        try:
            page = await browser.new_page(viewport={"width": 1280, "height": 900}, **options)
            page.set_default_timeout(PATIENCE)
            seen.watch(page)
            await page.goto(address)
            yield page
        finally:
            await browser.close()
    assert (seen.errors, seen.outside) == ([], [])


async def assert_accessible(page: Any) -> None:
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        found = await axe.Axe().run(page)
        assert found.violations_count == 0, f"{scheme}: {found.generate_report()}"
    await page.emulate_media(color_scheme="light", reduced_motion="no-preference")


async def until(page: Any, condition: str) -> None:
    """Wait for JavaScript to be true; `wait_for_function` would need a policy that lets strings be evaluated."""
    async with asyncio.timeout(PATIENCE / 1000):
        while not await page.evaluate(condition):  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.05)


def card(page: Any, state: str) -> Any:
    return page.locator(f".card[data-state={state}]")


async def test_a_running_batch_is_seen_as_it_goes_on(tmp_path: Path) -> None:
    held = asyncio.Event()
    prompts = [f"a cat on its way, number {number}" for number in range(8)]
    trouble = Trouble.script(task=["failed"], submit=["ok", "http_400"])
    async with (
        Emulator(videos="tiny", durations=0.5, queue_time=0.1, estimated_time=1, trouble=trouble) as emu,
        WanSession(config=Config(api_key=emu.api_key, base_url=emu.base_url)) as wan,
    ):

        async def slowly() -> AsyncIterator[str]:
            for number, prompt in enumerate(prompts):
                if number == 4:
                    await held.wait()
                yield prompt

        async with wan.batch(slowly(), tmp_path) as batch, Gallery(tmp_path) as gallery, opened(gallery.url) as page:
            await page.evaluate("window.stillTheSamePage = true")
            going = asyncio.ensure_future(batch.wait())
            await playwright.expect(page.locator("#empty")).to_contain_text("Nothing is in the journal yet")
            held.set()
            await playwright.expect(card(page, "saved")).to_have_count(6, timeout=PATIENCE)
            await going
            await playwright.expect(page.locator("#when")).to_contain_text("Live", timeout=PATIENCE)
            assert await page.evaluate("window.stillTheSamePage") is True
            await page.locator(".filter", has_text="Failed").click()
            await playwright.expect(page.locator(".card")).to_have_count(1)
            await playwright.expect(page.locator(".card .command")).to_contain_text("--retry-failed 1")
            await assert_accessible(page)
            await page.locator(".filter", has_text="All").click()
            await card(page, "saved").first.locator(".open").click()
            await until(page, "document.querySelector('#theatre video').currentTime > 0.2")
            await assert_accessible(page)
            await page.keyboard.press("Escape")
            await playwright.expect(page.locator("#detail")).to_be_hidden()
            await assert_accessible(page)


async def test_a_report_of_thousands_stays_quick(tmp_path: Path) -> None:
    states = ["failed" if number % 50 == 0 else "saved" if number < 500 else "planned" for number in range(5000)]
    await make_batch(tmp_path, states, [*["a cat"] * 4320, "one very particular zebra"])
    async with opened((await write_report(tmp_path)).as_uri()) as page:
        await page.wait_for_selector(".stage.shown")
        assert await page.locator(".card").count() < 100
        await page.evaluate(WATCH_LONG_TASKS)
        for _ in range(20):
            await page.mouse.wheel(0, 3000)
        await page.keyboard.press("/")
        await page.keyboard.type("zebra")
        await playwright.expect(page.locator(".card")).to_have_count(1)
        await page.keyboard.press("Escape")
        await page.locator(".filter", has_text="Failed").click()
        await playwright.expect(page.locator("#shown")).to_have_text("100 items shown")
        assert await page.locator(".card").count() < 100
        assert await page.locator("video").count() <= 4
        # What it does between two answers, on whatever machine this is: less than it takes to show the page at all.
        assert await page.evaluate("window.longest < performance.getEntriesByType('navigation')[0].loadEventEnd")


async def test_the_pace_of_several_machines_is_one_plot(tmp_path: Path) -> None:
    await make_batch(tmp_path, ["saved"])
    async with await Journal.open(tmp_path, now=lambda: NOW) as journal:
        for step in range(1, 11):
            for machine, share in enumerate((3, 2)):
                sums: dict[str, Any] = {"accepted": step * share, "refused": step * machine, "saved": step}
                await journal.add_sample(PaceSample(at=NOW + 10 * step + machine, run=NOW + machine, **sums))
    async with opened((await write_report(tmp_path)).as_uri()) as page:
        await playwright.expect(page.locator("#pace-words")).to_contain_text("50 accepted, 10 refused")
        assert await page.locator("#plot .accepted").count() > 1


async def test_the_keys_lead_through_the_page(tmp_path: Path) -> None:
    await make_batch(tmp_path, ["saved"] * 12)
    async with opened((await write_report(tmp_path)).as_uri()) as page:
        await page.wait_for_selector(".stage.shown")

        async def place() -> str:
            told: str = await page.evaluate("document.activeElement.closest('.card')?.ariaPosInSet ?? ''")
            return told

        await page.keyboard.press("ArrowRight")
        assert await place() == "1"
        await page.keyboard.press("ArrowRight")
        await page.keyboard.press("ArrowDown")
        columns = await page.evaluate(
            "Math.round(document.querySelector('#grid').clientWidth / document.querySelector('.card').clientWidth)"
        )
        assert int(await place()) == 2 + columns
        await page.keyboard.press(" ")
        await until(page, "document.querySelector('.card video')?.currentTime > 0.1")
        await page.keyboard.press("Enter")
        await page.wait_for_selector("#detail[open] video")
        await page.keyboard.press("ArrowRight")
        await playwright.expect(page.locator("#detail-title")).to_have_text(f"Item {3 + columns}, Saved")
        await page.keyboard.press("Escape")
        await until(page, f"document.activeElement.closest('.card')?.ariaPosInSet === '{3 + columns}'")


async def test_hostile_words_are_shown_and_do_nothing(tmp_path: Path) -> None:
    states = ["saved", "failed", "rejected", "unknown", "expired", "following", "planned"]
    await make_batch(tmp_path, states, [NASTY] * len(states))
    async with opened((await write_report(tmp_path)).as_uri()) as page:
        await playwright.expect(page.locator(".card")).to_have_count(len(states))
        assert await page.locator(".card .prompt").first.text_content() == NASTY
        await card(page, "failed").locator(".open").click(position={"x": 20, "y": 20})
        await playwright.expect(page.locator("#detail blockquote")).to_contain_text("the provider would not")
        assert await page.evaluate("window.broken") is None
        assert await page.locator(".card img, #detail img").count() == 0
        await assert_accessible(page)


@pytest.mark.parametrize("width", [360, 820])
async def test_on_a_narrow_screen_nothing_sticks_out(tmp_path: Path, width: int) -> None:
    await make_batch(tmp_path)
    async with opened((await write_report(tmp_path)).as_uri()) as page:
        await page.set_viewport_size({"width": width, "height": 740})
        await page.wait_for_selector(".card")
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        await assert_accessible(page)
