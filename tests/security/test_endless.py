"""Nothing that a host sends takes all memory, all of the disk or all of the time."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
import zlib
from pathlib import Path

import pytest

from tests.helpers.raw_server import Wire, raw_server, reply, say
from tests.helpers.video_host import film
from wanasync import APITimeoutError, Config, DownloadError, ResponseFormatError, WanError
from wanasync.edges import download
from wanasync.edges.download import DeadLinkError, TransferError, fetch
from wanasync.edges.transport import MAX_REPLY, ReplyLostError, Transport
from wanasync.models import VideoRequest
from wanasync.rules.calls import Call, credits_call, submit_call
from wanasync.rules.replies import Reply, read_task
from wanasync.testing import virtual_time

KEY = "k" * 20
UNFRAMED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"


def submission(base_url: str) -> Call:
    return submit_call(base_url, VideoRequest("a cat"), "key-0123456789abcdef")


def config_for(base_url: str) -> Config:
    return Config(api_key=KEY, base_url=base_url, read_timeout=10.0)


async def test_a_small_body_that_unpacks_to_a_large_one_is_not_unpacked() -> None:
    """200 kB on the wire, 200 MB unpacked."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(200)) + packer.flush()
    said = say(reply(bomb, "Content-Encoding: gzip"))
    async with raw_server(said) as server, Transport(config_for(server.url)) as transport:
        tracemalloc.start()
        try:
            with pytest.raises(ResponseFormatError, match="larger than 8 MiB"):
                await transport.send(credits_call(server.url))
            with pytest.raises(ReplyLostError, match="larger than 8 MiB"):
                await transport.send(submission(server.url))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 5 * MAX_REPLY


async def test_a_reply_without_end_is_not_read_on() -> None:
    async def pour(wire: Wire) -> None:
        await wire.request()
        await wire.send(UNFRAMED)
        while True:
            await wire.send(b"x" * 2**16)

    async with raw_server(pour) as server, Transport(config_for(server.url)) as transport:
        with pytest.raises(ResponseFormatError, match="larger than 8 MiB"):
            await transport.send(credits_call(server.url))


async def _drip(wire: Wire, head: bytes, piece: bytes) -> None:
    await wire.request()
    await wire.send(head)
    while True:
        await asyncio.sleep(7.0)
        await wire.send(piece)


@pytest.mark.parametrize("part", ["headers", "body"])
def test_a_reply_that_drips_is_left(part: str) -> None:
    """Each byte comes within the read timeout, and the reply never ends."""

    async def drip(wire: Wire) -> None:
        if part == "headers":
            await _drip(wire, b"HTTP/1.1 200 OK\r\n", b"X: y\r\n")
        else:
            await _drip(wire, UNFRAMED, b" ")

    @virtual_time
    async def scene() -> None:
        async with raw_server(drip) as server, Transport(config_for(server.url)) as transport:
            async with asyncio.timeout(200.0):
                with pytest.raises(APITimeoutError):
                    await transport.send(credits_call(server.url))
                with pytest.raises(ReplyLostError):
                    await transport.send(submission(server.url))

    scene()


@virtual_time
async def test_a_download_that_drips_is_left(tmp_path: Path) -> None:
    video = film(300_000)

    async def drip(wire: Wire) -> None:
        await wire.request()
        await wire.send(b'HTTP/1.1 200 OK\r\nETag: "a"\r\nContent-Length: 300000\r\n\r\n' + video[:1000])
        while True:
            await asyncio.sleep(5.0)
            await wire.send(b"\0")

    async with raw_server(drip) as server, Transport(config_for(server.url)) as transport:
        with pytest.raises(TransferError, match="too slowly"):
            async with asyncio.timeout(300.0):
                await fetch(transport, f"{server.url}/v.mp4", tmp_path / "v.mp4", task_id="task-1")


@pytest.mark.parametrize("declared", [True, False])
async def test_a_video_without_end_does_not_fill_the_disk(
    declared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_VIDEO", 2_000_000)
    sent: list[int] = []

    async def pour(wire: Wire) -> None:
        await wire.request()
        length = b"Content-Length: 99999999999999\r\n" if declared else b""
        await wire.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + length + b"\r\n" + film(100_000))
        for _ in range(1000):
            await wire.send(b"x" * 2**16)
            sent.append(2**16)

    async with raw_server(pour) as server, Transport(config_for(server.url)) as transport:
        with pytest.raises(DeadLinkError, match="which is no video"):
            await fetch(transport, f"{server.url}/v.mp4", tmp_path / "v.mp4", task_id="task-1")
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2_100_000
    assert sum(sent) < 40_000_000


async def test_headers_without_end_are_not_read_on() -> None:
    async def pour(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\n")
        while True:
            await wire.send(b"X-Header: " + b"y" * 4000 + b"\r\n")

    async with raw_server(pour) as server, Transport(config_for(server.url)) as transport:
        tracemalloc.start()
        try:
            with pytest.raises(WanError):
                await transport.send(credits_call(server.url))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 2**26


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000,
        b'{"id":' * 100_000,
        b'{"id": "task-1", "status": "pending", "x": ' + b'{"y":' * 200 + b"1" + b"}" * 200 + b"}",
        b'{"id": "task-1", "status": "pending", "progress": ' + b"9" * 100_000 + b"}",
    ],
)
def test_json_beyond_measure_is_an_error_of_ours(body: bytes) -> None:
    with pytest.raises(ResponseFormatError):
        read_task(Reply(200, {}, body), now=0.0)


def test_a_nested_request_is_refused_before_it_is_sent() -> None:
    nested: object = 1
    for _ in range(100):
        nested = {"deeper": nested}
    with pytest.raises(WanError, match="nested"):
        VideoRequest("a cat", extra={"x": nested})
    assert json.dumps(VideoRequest("a cat", extra={"x": {"y": 1}}).extra)


def test_download_errors_are_one_family() -> None:
    assert issubclass(DeadLinkError, DownloadError)
    assert issubclass(TransferError, DownloadError)
