"""A file host on 127.0.0.1 that hands out one video, in all the ways in which file hosts do, well and badly."""

from __future__ import annotations

import asyncio
import random
import re
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from attrs import define, field

__all__ = ["VideoHost", "film", "video_host"]

_RANGE = re.compile(r"bytes=(\d+)-")


def film(size: int = 200_000, seed: int = 0) -> bytes:
    """`size` bytes with the outer structure of an MP4; the same seed gives the same bytes."""
    head = _box(b"ftyp", b"isom\0\0\2\0isomiso2") + _box(b"moov", bytes(64))
    return head + _box(b"mdat", random.Random(seed).randbytes(size - len(head) - 8))


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


@define
class VideoHost:
    """Serves `video` under every path. What is set here holds for the next request.

    `cuts` are taken off one by one: a request ends, with a reset, after that many bytes of its body. `statuses` and
    `pages` likewise: an error status, and a body in the video's place. `pace` is a pause between two pieces of a body.
    """

    url: str = ""
    video: bytes = b""
    etag: str | None = '"first"'
    last_modified: str | None = None
    ranges: bool = True
    lengths: bool = True
    content_type: str = "video/mp4"
    headers: dict[str, str] = field(factory=dict)
    cuts: list[int] = field(factory=list)
    clean_cuts: list[int] = field(factory=list)
    statuses: list[int] = field(factory=list)
    pages: list[bytes] = field(factory=list)
    instead: Callable[[web.Request], Awaitable[web.StreamResponse | None]] | None = None
    pause: asyncio.Event | None = None
    piece: int = 65_536
    asked: asyncio.Event = field(factory=asyncio.Event)
    requests: list[web.Request] = field(factory=list)
    sent: int = 0
    under_way: int = 0
    most_under_way: int = 0

    @property
    def link(self) -> str:
        return f"{self.url}/video.mp4?Signature=secret"

    def asked_from(self) -> list[int]:
        """Where each request began."""
        return [self._start(request) for request in self.requests]

    def _start(self, request: web.Request) -> int:
        match = _RANGE.fullmatch(request.headers.get("Range", ""))
        return int(match[1]) if match else 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.asked.set()
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            return await self._answer(request)
        finally:
            self.under_way -= 1

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if self.instead is not None and (other := await self.instead(request)) is not None:
            return other
        if self.statuses and (status := self.statuses.pop(0)) != 200:
            return web.Response(status=status, text="<Error>no</Error>", headers=self.headers)
        body = self.pages.pop(0) if self.pages else self.video
        return await self._stream(request, body)

    def _honours(self, request: web.Request) -> bool:
        current = request.headers.get("If-Range") in (self.etag or self.last_modified, None)
        return self.ranges and "Range" in request.headers and current

    async def _stream(self, request: web.Request, body: bytes) -> web.StreamResponse:
        start = self._start(request) if self._honours(request) else 0
        if start >= len(body) > 0:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{len(body)}"})
        reply = web.StreamResponse(status=206 if self._honours(request) else 200, headers=self._headers(start, body))
        if self.lengths:
            reply.content_length = len(body) - start
        elif self.clean_cuts:
            reply.force_close()  # the end of the connection is the end of the body
        await reply.prepare(request)
        cut = self.cuts.pop(0) if self.cuts else None
        clean = self.clean_cuts.pop(0) if self.clean_cuts else None
        await self._write(reply, body[start:][: cut if cut is not None else clean])
        if cut is not None:
            assert request.transport is not None
            request.transport.abort()
        return reply

    def _headers(self, start: int, body: bytes) -> dict[str, str]:
        headers = {"Content-Type": self.content_type, **self.headers}
        if self.etag:
            headers["ETag"] = self.etag
        if self.last_modified:
            headers["Last-Modified"] = self.last_modified
        if start:
            headers.setdefault("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        return headers

    async def _write(self, reply: web.StreamResponse, body: bytes) -> None:
        for offset in range(0, len(body), self.piece):
            if self.pause is not None:
                await self.pause.wait()
            piece = body[offset : offset + self.piece]
            await reply.write(piece)
            self.sent += len(piece)


@asynccontextmanager
async def video_host(video: bytes | None = None) -> AsyncIterator[VideoHost]:
    host = VideoHost(video=film() if video is None else video)
    app = web.Application()
    app.router.add_get("/{path:.*}", host.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.05)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield host
    finally:
        await runner.cleanup()
