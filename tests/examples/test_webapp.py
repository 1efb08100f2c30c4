"""The example applications as their own processes, over https, called back by the emulator."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import aiohttp
import pytest

from tests.examples.rush import APPLICATIONS, rush, stage
from tests.helpers.browser import chromium, heard


@pytest.mark.parametrize(("name", "restart"), [("fastapi", signal.SIGTERM), ("aiohttp", signal.SIGKILL)])
async def test_every_video_arrives_once_in_spite_of_lost_callbacks_and_a_restart(
    name: str, restart: int, tmp_path: Path
) -> None:
    came = await rush(name, tmp_path, jobs=40, restart=restart)
    assert came.problems == []
    assert came.states == {"saved": 40}
    assert came.callbacks


@pytest.mark.parametrize("name", APPLICATIONS)
async def test_a_browser_starts_a_job_and_plays_its_video(name: str, tmp_path: Path) -> None:
    async with chromium() as browser, stage(name, tmp_path) as (app, http):
        await until_up(app.url, http)
        page = await browser.new_page(ignore_https_errors=True)
        with heard(page) as complaints:
            await page.goto(app.url)
            await page.fill("input[name=prompt]", "A cat <b>playing</b> piano")
            await page.click("button")
            await page.wait_for_selector("li[data-state=saved] video")
            assert await page.inner_text(".prompt") == "A cat <b>playing</b> piano"
            await page.evaluate("document.querySelector('video').play()")
            await page.wait_for_function("document.querySelector('video').currentTime > 0.2")
            await page.reload()
            await page.wait_for_selector("li[data-state=saved] video")
            assert complaints == []
        # uvicorn ends in good order and then by the very signal.
        assert await app.stop() in (0, -signal.SIGTERM)


async def until_up(url: str, http: aiohttp.ClientSession) -> None:
    while True:
        try:
            async with http.get(f"{url}/health") as reply:
                if reply.status == 200:
                    return
        except aiohttp.ClientError:
            await asyncio.sleep(0.1)
