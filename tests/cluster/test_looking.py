"""`status`, `gallery` and `report` read a batch that workers share as they read a directory."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from tests.cluster.working import BATCH, hand_in, settled, working
from wanasync import BatchHistory, PostgresJournal
from wanasync.emulator import Emulator
from wanasync.gallery import Gallery

ITEMS = 3


async def run(*arguments: str) -> tuple[int, str, str]:
    command = (sys.executable, "-m", "wanasync", *arguments)
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


@pytest.fixture
async def batch(cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the videos of a batch are that two workers have made."""
    monkeypatch.setenv("WAN_DATABASE_URL", cluster)
    to = tmp_path / "videos"
    await hand_in(cluster, to, ITEMS, size=1)
    async with Emulator(durations=0.2, queue_time=0.1) as emu, working(cluster, emu), working(cluster, emu):
        assert (await settled(cluster, ITEMS)).saved == ITEMS
    return to


async def test_a_batch_is_found_by_its_name_and_tells_where_its_videos_are(batch: Path, tmp_path: Path) -> None:
    code, out, _ = await run("status", BATCH)
    assert (code, "3  saved" in out) == (0, True)
    code, out, _ = await run("cluster", "status", BATCH, "--json")
    paths = {Path(json.loads(line)["path"]) for line in out.splitlines()}
    assert (code, paths) == (0, set(batch.glob("*.mp4")))
    table = tmp_path / "t.jsonl"
    code, out, err = await run("status", BATCH, "--table", str(table))
    assert (code, len(table.read_text().splitlines())) == (0, ITEMS), err


async def test_what_is_no_batch_is_a_task_or_told(cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = await run("gallery", "nobody", "--database", cluster, "--no-open")
    assert (code, "there is no batch 'nobody'" in err) == (2, True)
    monkeypatch.setenv("WAN_DATABASE_URL", cluster)
    monkeypatch.delenv("WAN_API_KEY", raising=False)
    code, _, err = await run("status", "task-unified-1-a")
    assert (code, "WAN_API_KEY" in err) == (2, True)


async def test_its_report_is_written_beside_its_videos(batch: Path, tmp_path: Path) -> None:
    code, out, err = await run("report", BATCH)
    assert (code, out.strip()) == (0, str(batch / "index.html")), err
    page = (batch / "index.html").read_text("utf-8")
    assert all(path.name in page for path in batch.glob("*.mp4"))
    assert f"wanasync cluster submit LIST --batch {BATCH}" in page
    batch.rename(tmp_path / "moved")
    code, _, err = await run("report", BATCH)
    assert (code, "--to" in err) == (2, True)
    code, out, err = await run("report", BATCH, "--to", str(tmp_path / "moved"))
    assert (code, out.strip()) == (0, str(tmp_path / "moved" / "index.html")), err


async def test_its_gallery_is_live(cluster: str, tmp_path: Path) -> None:
    to = tmp_path / "videos"
    await hand_in(cluster, to, ITEMS)
    journal = PostgresJournal(cluster, BATCH)
    async with (
        BatchHistory(journal=journal) as history,
        Gallery(history.directory, source=history, shared=BATCH) as gallery,
        aiohttp.ClientSession() as web,
    ):
        async with web.get(gallery.url) as page:
            assert f"<title>{BATCH} " in await page.text()
        mark = await history.mark()
        async with (
            web.get(f"{gallery.url}events?since={mark}") as events,
            Emulator(durations=0.2, queue_time=0.1) as emu,
            working(cluster, emu),
            working(cluster, emu),
            asyncio.timeout(30),
        ):
            saved: set[int] = set()
            paces = running = 0
            while len(saved) < ITEMS or not paces or not running:
                line = (await events.content.readline()).decode()
                name = line.removeprefix("event: ").strip() if line.startswith("event: ") else ""
                if not name:
                    continue
                told = json.loads((await events.content.readline()).decode().removeprefix("data: "))
                saved |= {item["number"] for item in told if item["state"] == "saved"} if name == "items" else set()
                paces += name == "pace"
                running += name == "status" and told["running"] is not None
            async with web.get(f"{gallery.url}videos/1.mp4") as film:
                assert (film.status, len(await film.read()) > 0) == (200, True)
