from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import pytest_asyncio

from tests.gallery.making import NOW, clip, make_batch
from wanasync import JournalError
from wanasync.edges.journal import Journal
from wanasync.gallery import Gallery
from wanasync.rules.lifecycle import ItemEvent

SAVED = 5
"""The number of the item that `make_batch` saves."""


@pytest_asyncio.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, Any, str | None]]:
    """(event, data, id) as they come."""
    told: dict[str, str] = {}
    async for line in response.content:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name:
            told[name] = value
        elif "event" in told:
            yield told["event"], json.loads(told["data"]), told.get("id")
            told = {}
        else:
            told = {}


async def until(news: AsyncIterator[tuple[str, Any, str | None]], name: str) -> tuple[Any, str | None]:
    async with asyncio.timeout(20):
        async for event, data, mark in news:
            if event == name:
                return data, mark
    raise AssertionError(f"no event {name} came")


async def test_the_page_is_served_with_its_guards(tmp_path: Path, client: aiohttp.ClientSession) -> None:
    await make_batch(tmp_path)
    async with Gallery(tmp_path) as gallery, client.get(gallery.url) as reply:
        assert reply.status == 200
        assert reply.content_type == "text/html"
        assert "frame-ancestors 'none'" in reply.headers["Content-Security-Policy"]
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Referrer-Policy"] == "no-referrer"
        assert (await reply.text()).rstrip().endswith("</html>")


async def test_without_the_token_there_is_nothing(tmp_path: Path, client: aiohttp.ClientSession) -> None:
    await make_batch(tmp_path)
    async with Gallery(tmp_path) as gallery:
        origin = "http://" + urlsplit(gallery.url).netloc
        for path in ("/", "/events", "/videos/5.mp4", "/x/", "/.wanasync/journal.db"):
            async with client.get(origin + path) as reply:
                assert reply.status == 404, path


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:80"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
async def test_other_sites_and_rebound_names_are_refused(
    tmp_path: Path, client: aiohttp.ClientSession, headers: dict[str, str]
) -> None:
    await make_batch(tmp_path)
    async with Gallery(tmp_path) as gallery:
        for path in ("", "events", f"videos/{SAVED}.mp4"):
            async with client.get(gallery.url + path, headers=headers) as reply:
                assert reply.status == 403


async def test_a_video_is_served_whole_and_in_ranges(tmp_path: Path, client: aiohttp.ClientSession) -> None:
    records = await make_batch(tmp_path)
    content = clip().read_bytes()
    async with Gallery(tmp_path) as gallery:
        address = f"{gallery.url}videos/{SAVED}.mp4"
        async with client.get(address) as reply:
            assert (reply.status, reply.content_type) == (200, "video/mp4")
            assert await reply.read() == content
            tag = reply.headers["ETag"]
            assert tag == f'"{records[SAVED - 1].sha256}"'
        for wanted, part in (("bytes=2-5", content[2:6]), ("bytes=-4", content[-4:]), ("bytes=7-", content[7:])):
            async with client.get(address, headers={"Range": wanted, "If-Range": tag}) as reply:
                assert reply.status == 206
                assert reply.headers["Content-Range"].endswith(f"/{len(content)}")
                assert await reply.read() == part
        async with client.get(address, headers={"Range": "bytes=2-5", "If-Range": '"another"'}) as reply:
            assert reply.status == 200
        async with client.get(address, headers={"Range": f"bytes={len(content)}-"}) as reply:
            assert (reply.status, reply.headers["Content-Range"]) == (416, f"bytes */{len(content)}")
        async with client.get(address, headers={"Range": "lines=1-2"}) as reply:
            assert reply.status == 200
        async with client.head(address) as reply:
            assert int(reply.headers["Content-Length"]) == len(content)


async def test_nothing_is_served_but_saved_videos(tmp_path: Path, client: aiohttp.ClientSession) -> None:
    await make_batch(tmp_path)
    (tmp_path / "secret.mp4").write_text("mine")
    tries = ["videos/1.mp4", "videos/999.mp4", "videos/999999999999.mp4", "videos/secret.mp4", "secret.mp4"]
    tries += ["videos/../.wanasync/journal.db", "videos/..%2f.wanasync%2fjournal.db", "videos/5", "videos/-1.mp4"]
    async with Gallery(tmp_path) as gallery:
        for path in tries:
            async with client.get(gallery.url + path) as reply:
                assert reply.status == 404, path


@pytest.mark.parametrize("kind", ["link", "folder link", "directory", "pipe", "gone"])
async def test_a_video_that_is_no_plain_file_of_the_directory_is_not_served(
    tmp_path: Path, client: aiohttp.ClientSession, kind: str
) -> None:
    batch, outside = tmp_path / "batch", tmp_path / "outside"
    outside.mkdir()
    record = (await make_batch(batch, ["saved"]))[0]
    film = batch / record.file
    film.rename(outside / film.name)
    match kind:
        case "link":
            film.symlink_to(outside / film.name)
        case "folder link":
            async with await Journal.open(batch, now=lambda: NOW) as journal:
                moved = ("REPLACE INTO item (seq, file) VALUES (1, ?)", [f"sub/{film.name}"])
                await journal._do(lambda: journal._store._db.execute(*moved))
            (batch / "sub").symlink_to(outside)
        case "directory":
            film.mkdir()
        case "pipe":
            os.mkfifo(film)
    async with Gallery(batch) as gallery, client.get(f"{gallery.url}videos/1.mp4") as reply:
        assert reply.status == 404


async def test_what_changes_is_told_as_it_happens(tmp_path: Path, client: aiohttp.ClientSession) -> None:
    records = await make_batch(tmp_path, ["following", "planned"])
    async with Gallery(tmp_path, clock=lambda: NOW) as gallery, client.get(f"{gallery.url}events?since=0.0/0") as reply:
        news = events(reply)
        items, _ = await until(news, "items")
        assert [item["state"] for item in items] == ["following", "planned"]
        status, mark = await until(news, "status")
        assert status["following"] == 1
        async with await Journal.open(tmp_path, now=lambda: NOW + 1) as journal:
            await journal.record(records[0].key, ItemEvent.FAILED, error_message="no")
            items, _ = await until(news, "items")
            assert [(item["number"], item["state"], item["error"]) for item in items if item["number"] == 1] == [
                (1, "failed", "no")
            ]
            status, _ = await until(news, "status")
            assert (status["failed"], "process" in status["running"]) == (1, True)
    assert mark


async def test_a_page_that_lost_the_line_goes_on_from_its_mark(tmp_path: Path, client: aiohttp.ClientSession) -> None:
    records = await make_batch(tmp_path, ["following", "following"])
    async with Gallery(tmp_path, clock=lambda: NOW) as gallery:
        async with client.get(f"{gallery.url}events?since=0.0/0") as reply:
            _, mark = await until(events(reply), "status")
        async with await Journal.open(tmp_path, now=lambda: NOW + 5) as journal:
            await journal.record(records[1].key, ItemEvent.FAILED, error_message="no")
        again = {"Last-Event-ID": mark or ""}
        async with client.get(f"{gallery.url}events?since=0.0/0", headers=again) as reply:
            items, _ = await until(events(reply), "items")
        assert {item["number"]: item["state"] for item in items}[2] == "failed"


@pytest.mark.parametrize("since", ["", "nonsense", "1e999/1", "nan/2", "0/x", "1/99999999999999999999999"])
async def test_a_mark_that_is_none_begins_anew(tmp_path: Path, client: aiohttp.ClientSession, since: str) -> None:
    await make_batch(tmp_path, ["saved"])
    async with Gallery(tmp_path) as gallery:
        async with client.get(f"{gallery.url}events", params={"since": since}) as reply:
            status, _ = await until(events(reply), "status")
        assert status["saved"] == 1


async def test_leaving_ends_the_pages_that_listen(tmp_path: Path, client: aiohttp.ClientSession) -> None:
    await make_batch(tmp_path, ["saved"])
    async with Gallery(tmp_path) as gallery:
        reply = await client.get(f"{gallery.url}events")
        news = events(reply)
        await until(news, "status")
    assert (await until(news, "end"))[0] is None
    reply.release()


async def test_a_directory_without_a_batch_has_no_gallery(tmp_path: Path) -> None:
    with pytest.raises(JournalError):
        async with Gallery(tmp_path):
            pass
