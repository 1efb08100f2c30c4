from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import aiohttp
import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.emulator.making import BODY
from tests.emulator.test_app import call
from wanasync.emulator import Emulator, Trouble
from wanasync.emulator.cdn import parse_range
from wanasync.testing import virtual_time

SIZE = 300_000


@frozen
class Got:
    status: int = 0
    body: bytes = b""
    headers: Any = None
    hops: int = 0
    url: str = ""
    error: str | None = None


async def completed(emulator: Emulator) -> str:
    """The link of a new task, completed; the emulator's tasks have to take no time."""
    _, task, _ = await call(emulator, "POST", "v1/videos/generations", json=BODY)
    _, done, _ = await call(emulator, "GET", f"v1/tasks/{task['id']}")
    return str(done["results"][0])


async def get(link: str, **more: Any) -> Got:
    async with aiohttp.ClientSession() as session:
        try:
            async with session.get(link, **more) as reply:
                body = await reply.read()
        except aiohttp.ClientError as error:
            return Got(error=type(error).__name__)
        return Got(reply.status, body, reply.headers, len(reply.history), str(reply.url))


def video_of(emulator: Emulator) -> bytes:
    (task,) = emulator.tasks
    return emulator.video(task.id)


async def download(fault: str, *, headers: dict[str, str] | None = None, **options: Any) -> tuple[Got, bytes]:
    trouble = Trouble.script(download=[fault])
    async with Emulator(durations=0, clip_bytes=SIZE, trouble=trouble, **options) as emulator:
        return await get(await completed(emulator), headers=headers), video_of(emulator)


# --- without trouble


async def test_a_video_comes_whole_with_a_validator() -> None:
    async with Emulator(durations=0, clip_bytes=SIZE) as emulator:
        got = await get(await completed(emulator))
        (task,) = emulator.tasks
        assert hashlib.sha256(got.body).hexdigest() == emulator.sha256(task.id)
        assert len(got.body) == SIZE == int(got.headers["Content-Length"])
        assert got.headers["Content-Type"] == "video/mp4"
        assert got.headers["ETag"].startswith('"')
        assert emulator.ledger.bytes_served == {task.id: SIZE}
        assert emulator.ledger.downloads == {task.id: 1}


async def test_a_part_can_be_asked_for_and_only_of_the_same_video() -> None:
    async with Emulator(durations=0, clip_bytes=SIZE) as emulator:
        link = await completed(emulator)
        whole = await get(link)
        etag, modified = whole.headers["ETag"], whole.headers["Last-Modified"]
        for validator in (etag, modified):
            part = await get(link, headers={"Range": "bytes=1000-", "If-Range": validator})
            assert (part.status, part.body) == (206, whole.body[1000:])
            assert part.headers["Content-Range"] == f"bytes 1000-{SIZE - 1}/{SIZE}"
        stale = await get(link, headers={"Range": "bytes=1000-", "If-Range": '"other"'})
        assert (stale.status, stale.body) == (200, whole.body)
        beyond = await get(link, headers={"Range": f"bytes={SIZE}-"})
        assert (beyond.status, beyond.headers["Content-Range"]) == (416, f"bytes */{SIZE}")


@pytest.mark.parametrize(("expired_reply", "word"), [(403, "expired"), (404, "AccessDenied"), (410, "Gone")])
async def test_a_link_dies_after_a_day(expired_reply: int, word: str) -> None:
    async with Emulator(durations=0, expired_reply=expired_reply) as emulator:
        link = await completed(emulator)
        emulator.advance(24 * 3600 - 5)
        assert (await get(link)).status == 200
        emulator.advance(10)
        got = await get(link)
        assert got.status == expired_reply
        assert word.encode() in got.body


async def test_a_fresh_link_lives_on() -> None:
    async with Emulator(durations=0, fresh_links=True) as emulator:
        old = await completed(emulator)
        emulator.advance(25 * 3600)
        assert (await get(old)).status == 403
        (task,) = emulator.tasks
        _, done, _ = await call(emulator, "GET", f"v1/tasks/{task.id}")
        assert (await get(done["results"][0])).status == 200


async def test_a_changed_link_is_refused() -> None:
    async with Emulator(durations=0) as emulator:
        link = await completed(emulator)
        assert (await get(link[:-1] + ("0" if link[-1] != "0" else "1"))).status == 403
        assert (await get(link.partition("?")[0])).status == 403


async def test_a_task_that_is_not_complete_has_no_video() -> None:
    async with Emulator(durations=100) as emulator:
        await call(emulator, "POST", "v1/videos/generations", json=BODY)
        (task,) = emulator.tasks
        link = emulator._provider.link(task)
        assert (await get(link)).status == 404
        with pytest.raises(KeyError):
            emulator.video("task-unified-1-x")


async def test_the_key_is_noticed_wherever_it_is_sent() -> None:
    async with Emulator(durations=0) as emulator:
        link = await completed(emulator)
        await get(link)
        assert emulator.ledger.key_leaks == 0
        await get(link, headers={"Authorization": f"Bearer {emulator.api_key}"})
        await get(link, headers={"X-Api-Key": emulator.api_key})
        await get(f"{link}&key={emulator.api_key}")
        assert emulator.ledger.key_leaks == 3


async def test_the_video_host_is_another_origin() -> None:
    async with Emulator() as emulator:
        assert len({emulator.base_url.rpartition("/")[0], emulator.video_url, emulator.mirror_url}) == 3


async def test_a_client_that_stops_in_the_middle_is_no_trouble() -> None:
    async with Emulator(durations=0, clip_bytes=20_000_000) as emulator:
        link = await completed(emulator)
        async with aiohttp.ClientSession() as session, session.get(link) as reply:
            await reply.content.read(1000)
            reply.close()
        assert (await get(link)).status == 200


@virtual_time
async def test_bandwidth_may_be_capped() -> None:
    async with Emulator(durations=0, clip_bytes=SIZE, bandwidth=10_000) as emulator:
        link = await completed(emulator)
        began = asyncio.get_running_loop().time()
        await get(link)
        assert asyncio.get_running_loop().time() - began == pytest.approx(SIZE / 10_000, rel=0.1)


# --- trouble


@pytest.mark.parametrize("fault", ["cut=1000", "cut_chunked=1000", "cut", "wrong_length"])
async def test_a_download_may_break_off(fault: str) -> None:
    got, _ = await download(fault)
    assert got.error == "ClientPayloadError"


async def test_a_cut_counts_from_where_the_part_begins() -> None:
    trouble = Trouble.script(download=["cut=1000"])
    async with Emulator(durations=0, clip_bytes=SIZE, trouble=trouble) as emulator:
        link = await completed(emulator)
        assert (await get(link, headers={"Range": "bytes=5000-"})).error == "ClientPayloadError"
        (task,) = emulator.tasks
        assert emulator.ledger.bytes_served[task.id] == 1000


async def test_an_unframed_body_may_end_early_and_nobody_can_tell() -> None:
    got, video = await download("cut_unframed=1000")
    assert (got.status, got.body, got.error) == (200, video[:1000], None)
    assert "Content-Length" not in got.headers
    assert "Transfer-Encoding" not in got.headers


async def test_a_body_may_be_compressed_though_nobody_asked() -> None:
    got, video = await download("gzip", headers={"Accept-Encoding": "identity"})
    assert got.headers["Content-Encoding"] == "gzip"
    assert got.body == video  # aiohttp unpacks it


async def test_a_length_may_be_too_short() -> None:
    got, video = await download("wrong_length=-1000")
    assert (got.error, got.body) == (None, video[:-1000])


async def test_a_connection_may_be_reset() -> None:
    got, _ = await download("reset")
    assert got.error in ("ClientOSError", "ServerDisconnectedError", None)


@pytest.mark.parametrize("fault", ["no_range", "no_length"])
async def test_a_host_may_ignore_ranges(fault: str) -> None:
    got, video = await download(fault, headers={"Range": "bytes=1000-"})
    assert (got.status, got.body) == (200, video)
    assert ("Content-Length" in got.headers) is (fault == "no_range")


async def test_a_host_may_send_another_part_than_asked_for() -> None:
    got, video = await download("bad_range", headers={"Range": "bytes=1000-"})
    assert (got.status, got.body) == (206, video[500:])
    assert got.headers["Content-Range"].startswith("bytes 500-")


async def test_a_validator_may_change() -> None:
    trouble = Trouble.script(download=["ok", "changed_etag"])
    async with Emulator(durations=0, trouble=trouble) as emulator:
        link = await completed(emulator)
        etag = (await get(link)).headers["ETag"]
        got = await get(link, headers={"Range": "bytes=1000-", "If-Range": etag})
        assert got.status == 200
        assert got.headers["ETag"] != etag


async def test_a_host_may_redirect_here_or_elsewhere() -> None:
    for fault, hops in (("redirect", 1), ("redirect_away", 1)):
        got, video = await download(fault)
        assert (got.status, got.body, got.hops) == (200, video, hops)
    trouble = Trouble.script(download=["redirect_away"])
    async with Emulator(durations=0, trouble=trouble) as emulator:
        got = await get(await completed(emulator))
        assert got.url.startswith(emulator.mirror_url)


async def test_redirects_may_never_end() -> None:
    got, _ = await download("redirect_loop")
    assert got.error == "TooManyRedirects"


@pytest.mark.parametrize(
    ("fault", "kind", "start"),
    [("html_200", "text/html", b"<html>"), ("json_200", "application/json", b"{"), ("empty_200", "video/mp4", b"")],
)
async def test_a_200_may_hold_no_video(fault: str, kind: str, start: bytes) -> None:
    got, video = await download(fault)
    assert (got.status, got.headers["Content-Type"].partition(";")[0]) == (200, kind)
    assert got.body.startswith(start)
    assert got.body[4:8] != video[4:8]


@pytest.mark.parametrize(
    ("fault", "status"), [("expired", 403), ("http_503", 503), ("html_502", 502), ("http_404", 404), ("empty_410", 410)]
)
async def test_a_host_may_refuse_or_fail(fault: str, status: int) -> None:
    got, _ = await download(fault)
    assert got.status == status


@virtual_time
async def test_a_download_may_be_slow() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    got, video = await download("slow=10000")
    assert got.body == video
    assert loop.time() - began == pytest.approx(30, rel=0.1)


@virtual_time
async def test_a_download_may_stall() -> None:
    trouble = Trouble.script(download=["stall=1000"])
    async with Emulator(durations=0, clip_bytes=SIZE, trouble=trouble) as emulator:
        timeout = aiohttp.ClientTimeout(total=None, sock_read=60)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(await completed(emulator)) as reply:
            with pytest.raises(TimeoutError):
                await reply.read()


# --- ranges


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (None, None),
        ("bytes=0-", (0, 100)),
        ("bytes=10-19", (10, 20)),
        ("bytes=90-500", (90, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=-500", (0, 100)),
        ("bytes=20-10", None),
        ("bytes=0-1,5-6", None),
        ("bytes=-", None),
        ("lines=1-2", None),
        ("nonsense", None),
    ],
)
def test_a_range_is_read_as_http_has_it(header: str | None, part: tuple[int, int] | None) -> None:
    assert parse_range(header, 100) == part


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=500-600", "bytes=-0"])
def test_a_range_beyond_the_end_cannot_be_satisfied(header: str) -> None:
    with pytest.raises(ValueError, match="of 100"):
        parse_range(header, 100)


@given(st.text(max_size=30) | st.from_regex(r"bytes=[0-9]{0,4}-[0-9]{0,4}", fullmatch=True), st.integers(1, 5000))
@settings(max_examples=150, deadline=None)
def test_any_range_is_a_part_of_the_video_or_nothing(header: str, size: int) -> None:
    try:
        part = parse_range(header, size)
    except ValueError:
        return
    assert part is None or 0 <= part[0] < part[1] <= size
