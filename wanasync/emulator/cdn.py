"""The video host: another origin than the API's, with signed links, ranges, and troubles of its own."""

from __future__ import annotations

import asyncio
import gzip
import re
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from random import Random

from aiohttp import web
from attrs import frozen

from wanasync.emulator.clock import Clock
from wanasync.emulator.ledger import Ledger
from wanasync.emulator.links import LinkState
from wanasync.emulator.media import Media, TinyMedia
from wanasync.emulator.mischief import GONE, hang_up, html_page, json_reply, reset
from wanasync.emulator.provider import Provider
from wanasync.emulator.settings import Settings
from wanasync.emulator.tasks import Task
from wanasync.emulator.trouble import Fault

__all__ = ["VideoHost", "parse_range"]

PIECE = 256 * 1024
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")
_NO_RANGES = ("no_range", "no_length", "cut_chunked", "cut_unframed")


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """(start, stop) of a single byte range; None where there is none to honour. Raises ValueError (416)."""
    match = _RANGE.fullmatch((header or "").replace(" ", ""))
    if match is None or match[1] == match[2] == "":
        return None
    if not match[1]:
        start, stop = max(0, size - int(match[2])), size
    else:
        start, stop = int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
    if match[1] and match[2] and int(match[2]) < int(match[1]):
        return None
    if start >= size or start >= stop:
        raise ValueError(f"bytes {start} to {stop} of {size}")
    return start, stop


@frozen
class _Part:
    """What of a video is sent, under which head."""

    media: Media
    status: int
    start: int
    stop: int
    headers: Mapping[str, str]

    @property
    def length(self) -> int:
        return self.stop - self.start


@frozen(eq=False)
class VideoHost:
    """Serves the videos of completed tasks. `mirror` is the address of the same host under another origin."""

    settings: Settings
    provider: Provider
    clock: Clock
    ledger: Ledger
    rng: Random
    media: Callable[[Task], Media | None]
    mirror: Callable[[], str]

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/videos/{task_id}.mp4", self._handle, allow_head=False)
        return app

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self._watch_for_the_key(request)
        task_id = request.match_info["task_id"]
        # A request that was redirected here has had its trouble.
        fault = None if "hop" in request.query else self.provider.dice.draw("download")
        try:
            reply = await self._reply(request, task_id, fault)
        except ConnectionError:
            # The client has left; a caller that stops in the middle is nothing to complain about.
            reply = web.Response(status=GONE)
        status = None if reply.status == GONE else reply.status
        self.ledger.downloads[task_id] += 1
        self.ledger.note("download", status, task_id=task_id, fault=fault.name if fault else None)
        return reply

    def _watch_for_the_key(self, request: web.Request) -> None:
        key = self.settings.api_key
        if (
            "Authorization" in request.headers
            or key in request.path_qs
            or any(key in v for v in request.headers.values())
        ):
            self.ledger.key_leaks += 1

    async def _reply(self, request: web.Request, task_id: str, fault: Fault | None) -> web.StreamResponse:
        name = fault.name if fault else ""
        if request.query.get("hop") == "loop":
            return _redirect(request.path_qs)
        if fault is not None and (early := self._instead(request, fault)) is not None:
            return early
        state = self.provider.links.check(task_id, request.query, self.clock.now())
        if state is LinkState.EXPIRED or name == "expired":
            return self._expired()
        if state is LinkState.FORGED:
            return _xml(403, "SignatureDoesNotMatch")
        task = self.provider.book.get(task_id)
        media = self.media(task) if task and task.status(self.clock.now()) == "completed" else None
        if media is None:
            return _xml(404, "NoSuchKey")
        return await self._send(request, media, fault)

    def _instead(self, request: web.Request, fault: Fault) -> web.Response | None:
        """A reply that has nothing to do with the video, or None."""
        path = request.path_qs
        style, _, status = fault.name.partition("_")
        if status.isdigit() and fault.name not in ("html_200", "json_200", "empty_200"):
            return html_page(int(status)) if style == "html" else _xml(int(status), "ServiceError")
        replies: dict[str, Callable[[], web.Response]] = {
            "reset": lambda: reset(request),
            "redirect": lambda: _redirect(f"{path}&hop=1"),
            "redirect_away": lambda: _redirect(f"{self.mirror()}{path}&hop=1"),
            "redirect_loop": lambda: _redirect(f"{path}&hop=loop"),
            "html_200": lambda: html_page(200),
            "json_200": lambda: json_reply({"error": {"code": 404, "message": "file not found"}}),
            "empty_200": lambda: web.Response(content_type="video/mp4"),
        }
        return replies[fault.name]() if fault.name in replies else None

    def _expired(self) -> web.Response:
        status = self.settings.expired_reply
        return html_page(status) if status == 410 else _xml(status, "AccessDenied", "Request has expired")

    # --- the video itself

    async def _send(self, request: web.Request, media: Media, fault: Fault | None) -> web.StreamResponse:
        try:
            part = self._part(request, media, fault)
        except ValueError:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{media.size}"})
        if fault is not None and fault.name == "gzip":
            packed = await asyncio.to_thread(lambda: gzip.compress(media.read(0, media.size), 1))
            return web.Response(body=packed, headers={"Content-Type": "video/mp4", "Content-Encoding": "gzip"})
        if fault is not None and fault.name == "cut_unframed":
            return await self._send_unframed(request, part, fault)
        reply = web.StreamResponse(status=part.status, headers=part.headers)
        if fault is not None and fault.name in ("no_length", "cut_chunked"):
            reply.enable_chunked_encoding()
        else:
            reply.content_length = part.length + _lie(fault)
        await reply.prepare(request)
        await self._stream(request, part, fault, reply.write)
        await self._finish(request, fault)
        return reply

    def _part(self, request: web.Request, media: Media, fault: Fault | None) -> _Part:
        name = fault.name if fault else ""
        etag = media.etag if name != "changed_etag" else f'{media.etag[:-1]}-new"'
        modified = formatdate(self.settings.epoch or 1_757_169_743, usegmt=True)
        headers = {"Content-Type": "video/mp4", "ETag": etag, "Last-Modified": modified}
        ranges = name not in _NO_RANGES
        if ranges:
            headers["Accept-Ranges"] = "bytes"
        wanted = parse_range(request.headers.get("Range"), media.size) if ranges else None
        if wanted is None or request.headers.get("If-Range", etag) not in (etag, modified):
            return _Part(media, 200, 0, media.size, headers)
        start, stop = wanted
        if name == "bad_range":
            start = start // 2
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{media.size}"
        return _Part(media, 206, start, stop, headers)

    async def _stream(
        self, request: web.Request, part: _Part, fault: Fault | None, write: Callable[[bytes], Awaitable[None]]
    ) -> None:
        rate = self.settings.bandwidth
        if fault is not None and fault.name == "slow":
            rate = fault.number(50_000.0)
        task_id = request.match_info["task_id"]
        at, stop = part.start, self._stop(part, fault)
        # A slow host is slow in small pieces: several a second.
        size = PIECE if rate is None else max(1, min(PIECE, int(rate / 4)))
        while at < stop:
            piece = await _read(part.media, at, min(at + size, stop))
            await write(piece)
            at += len(piece)
            self.ledger.bytes_served[task_id] += len(piece)
            if rate is not None:
                await self.clock.sleep(len(piece) / rate)

    def _stop(self, part: _Part, fault: Fault | None) -> int:
        if fault is None or not (fault.name.startswith("cut") or fault.name == "stall"):
            return part.stop
        sent = fault.number(self.rng.random() * part.length)
        return min(part.stop, part.start + int(sent))

    async def _finish(self, request: web.Request, fault: Fault | None) -> None:
        if fault is None:
            return
        if fault.name == "stall":
            await asyncio.sleep(3600.0)
        if fault.name in ("cut", "cut_chunked", "wrong_length", "stall"):
            hang_up(request)

    async def _send_unframed(self, request: web.Request, part: _Part, fault: Fault) -> web.Response:
        # aiohttp would frame the body by itself; a reply that ends with its connection has to be written by hand.
        transport = request.transport
        if transport is None:
            return web.Response(status=GONE)
        head = "".join(f"{name}: {value}\r\n" for name, value in part.headers.items())
        transport.write(f"HTTP/1.1 200 OK\r\n{head}Connection: close\r\n\r\n".encode())

        async def write(piece: bytes) -> None:
            transport.write(piece)

        await self._stream(request, part, fault, write)
        return hang_up(request)


async def _read(media: Media, start: int, stop: int) -> bytes:
    if isinstance(media, TinyMedia):
        return media.read(start, stop)
    return await asyncio.to_thread(media.read, start, stop)


def _lie(fault: Fault | None) -> int:
    return int(fault.number(1000.0)) if fault is not None and fault.name == "wrong_length" else 0


def _redirect(location: str) -> web.Response:
    return web.Response(status=302, headers={"Location": location})


def _xml(status: int, code: str, message: str = "") -> web.Response:
    text = (
        f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{message or code}</Message></Error>'
    )
    return web.Response(text=text, status=status, content_type="application/xml")
