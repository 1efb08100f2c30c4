"""The page, served over loopback and kept up to date while a run in another process goes on.

Whoever may look is who was given the address: it holds a random token, so neither other users of the machine nor pages
of other sites get in, and requests for another host's name, or out of another site's page, are refused besides.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from attrs import define, field

from wanasync import BatchHistory, ConfigError, JournalError
from wanasync.gallery.entries import entry, json_text, pace_object, status_object
from wanasync.gallery.films import Film, send_film
from wanasync.gallery.page import policy, render
from wanasync.gallery.source import Source

__all__ = ["Gallery"]

LOOK_EVERY = 0.5
"""Seconds between two looks at the journal, which cost next to nothing while nobody writes."""
LOOK_SHARE = 10.0
"""A look at a large journal takes longer; so many times that lie between two."""
STATUS_EVERY = 5.0
"""Seconds after which figures are told also when no item has changed: a run may have ended."""
OVERLAP = 30.0
"""Seconds of samples that are read again: those of several machines don't come in the order of their clocks."""
HEARTBEAT = 15.0
MOST_LISTENERS = 32
PIECE = 200
"""Items in one event."""

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Gallery:
    """Serves the page of a batch's directory from entering to leaving; `url` is where.

    ``async with Gallery("videos/") as gallery: webbrowser.open(gallery.url)``

    `source` tells of the batch, by default the directory's journal, and is then opened and closed here; `command` is
    the command line that goes on with the batch, `shared` the name of one that workers share. Entering raises
    `JournalError` where there is no batch, and `ConfigError` where the port can't be had.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        port: int = 0,
        source: Source | None = None,
        command: str | None = None,
        shared: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.directory: str = os.fspath(directory)
        self.url: str = ""
        self._port = port
        self._given = source
        self._command = command
        self._shared = shared
        self._clock = clock
        self._token = secrets.token_urlsafe(24)
        self._hosts: frozenset[str] = frozenset()
        self._listeners: set[asyncio.Task[Any]] = set()
        self._closing = asyncio.Event()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._source = await self._opened(stack)
            runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=2.0, handle_signals=False)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            stack.callback(self._closing.set)
            port = await self._listen(runner)
            self._hosts = frozenset({f"127.0.0.1:{port}", f"localhost:{port}"})
            self.url = f"http://127.0.0.1:{port}/{self._token}/"
            self._stack = stack.pop_all()
        return self

    async def _opened(self, stack: AsyncExitStack) -> Source:
        if self._given is not None:
            return self._given
        return await stack.enter_async_context(BatchHistory(self.directory))

    async def _listen(self, runner: web.AppRunner) -> int:
        site = web.TCPSite(runner, "127.0.0.1", self._port)
        try:
            await site.start()
        except OSError as error:
            raise ConfigError(f"the gallery can't listen on port {self._port}: {error.strerror or error}") from error
        port: int = runner.addresses[0][1]
        return port

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[self._guard])
        root = f"/{self._token}"
        app.router.add_get(f"{root}/", self._page)
        app.router.add_get(f"{root}/events", self._events, allow_head=False)
        app.router.add_get(root + r"/videos/{number:\d{1,12}}.mp4", self._film)
        return app

    # What is let in.

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            self._check(request)
            return await handler(request)
        except web.HTTPException as refusal:
            refusal.headers.update(HEADERS)
            raise
        except JournalError as error:
            return web.Response(status=503, text=str(error), headers=HEADERS)

    def _check(self, request: web.Request) -> None:
        """Raises `HTTPForbidden` for what a page of another site, or a name that was rebound to here, makes ask."""
        if request.headers.get("Host", "") not in self._hosts:
            raise web.HTTPForbidden(text="this gallery is served under its own address only")
        origin = request.headers.get("Origin")
        if origin is not None and origin.removeprefix("http://") not in self._hosts:
            raise web.HTTPForbidden(text="requests of other sites are refused")
        if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise web.HTTPForbidden(text="requests of other sites are refused")

    # What is served.

    async def _page(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={**HEADERS, "Content-Security-Policy": _page_policy()})
        response.content_type = "text/html"
        response.charset = "utf-8"
        pieces = render(self._source, now=self._clock(), live=True, command=self._command, shared=self._shared)
        # Before the head goes out, so that a journal that can't be read is told as such.
        first = await anext(pieces)
        await response.prepare(request)
        await response.write(first.encode("utf-8", "replace"))
        async for piece in pieces:
            await response.write(piece.encode("utf-8", "replace"))
        await response.write_eof()
        return response

    async def _film(self, request: web.Request) -> web.StreamResponse:
        item = await self._source.item(int(request.match_info["number"]))
        if item is None or item.state != "saved":
            raise web.HTTPNotFound(text="there is no such video")
        try:
            film = await asyncio.to_thread(Film.open, self._source.directory, item.file)
        except OSError as error:
            raise web.HTTPNotFound(text="the video is not there any more") from error
        with film:
            return await send_film(request, film, item.sha256 or "", HEADERS)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if len(self._listeners) >= MOST_LISTENERS:
            raise web.HTTPServiceUnavailable(text="too many pages listen already")
        following = _Following(
            self._source,
            request.headers.get("Last-Event-ID") or request.query.get("since", ""),
            _figure(request.query.get("pace", "")),
        )
        response = web.StreamResponse(headers={**HEADERS, "X-Accel-Buffering": "no"})
        response.content_type = "text/event-stream"
        listener = asyncio.current_task()
        assert listener is not None  # noqa: S101 - a handler runs in one
        self._listeners.add(listener)
        try:
            await response.prepare(request)
            with contextlib.suppress(ConnectionError):
                await self._tell(response, following)
        finally:
            self._listeners.discard(listener)
        return response

    async def _tell(self, response: web.StreamResponse, following: _Following) -> None:
        async with contextlib.aclosing(self._news(following)) as news:
            async for text in news:
                await response.write(text.encode("utf-8", "replace"))

    async def _news(self, following: _Following) -> AsyncGenerator[str]:
        """The events for one page; ends when the gallery closes."""
        yield "retry: 2000\n\n"
        time = asyncio.get_running_loop().time
        told_at = time()
        while not self._closing.is_set():
            started = time()
            try:
                async for event in following.look(started):
                    told_at = started
                    yield event
            except JournalError as error:
                yield _event("trouble", str(error))
            if started - told_at >= HEARTBEAT:
                told_at = started
                yield ": still here\n\n"
            await self._nap(max(LOOK_EVERY, (time() - started) * LOOK_SHARE))
        yield _event("end", None)

    async def _nap(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, HEARTBEAT)):
                await self._closing.wait()


@define
class _Following:
    """What one page was told, and what is new to it."""

    _source: Source
    _mark: str
    _sampled: float
    _samples: set[tuple[float, float]] = field(factory=set)
    _status: dict[str, Any] = field(factory=dict)
    _status_at: float = -STATUS_EVERY

    async def look(self, now: float) -> AsyncIterator[str]:
        changed = False
        try:
            changes = await self._source.changes(self._mark)
        except ValueError:
            self._mark = await self._source.mark()
        else:
            changed = bool(changes.items)
            for start in range(0, len(changes.items), PIECE):
                yield _event("items", [entry(item) for item in changes.items[start : start + PIECE]])
            self._mark = changes.mark
        if changed or now - self._status_at >= STATUS_EVERY or not self._status:
            async for event in self._figures(now):
                yield event

    async def _figures(self, now: float) -> AsyncIterator[str]:
        self._status_at = now
        samples = await self._source.pace(self._sampled - OVERLAP)
        fresh = [sample for sample in samples if (sample.run, sample.at) not in self._samples]
        self._samples = {(sample.run, sample.at) for sample in samples}
        if fresh:
            self._sampled = max(self._sampled, fresh[-1].at)
            yield _event("pace", [pace_object(sample) for sample in fresh])
        status = status_object(await self._source.status())
        if status != self._status:
            self._status = status
            # The mark goes with what comes last: a page that has it has seen all before.
            yield _event("status", status, self._mark)


def _event(name: str, content: Any, mark: str | None = None) -> str:
    head = f"id: {mark}\n" if mark is not None else ""
    return f"{head}event: {name}\ndata: {json_text(content)}\n\n"


def _figure(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _page_policy() -> str:
    # Headers can say what the page itself can't.
    return f"{policy(live=True)}; frame-ancestors 'none'"
