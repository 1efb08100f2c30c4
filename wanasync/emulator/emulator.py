"""The emulator: a provider in this process, on loopback sockets of its own."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import socket
from collections.abc import Callable
from email.utils import formatdate
from random import Random
from types import TracebackType
from typing import Self

from aiohttp import web
from attrs import define, field

from wanasync.emulator.app import BASE_PATH, Api
from wanasync.emulator.callbacks import Callbacks
from wanasync.emulator.cdn import VideoHost
from wanasync.emulator.clock import Clock
from wanasync.emulator.ledger import Ledger
from wanasync.emulator.links import Links
from wanasync.emulator.media import Media, tiny
from wanasync.emulator.provider import Provider
from wanasync.emulator.rendering import Rendering
from wanasync.emulator.settings import Settings
from wanasync.emulator.tasks import Task, TaskBook
from wanasync.emulator.trouble import Dice
from wanasync.emulator.videos import VideoStudio
from wanasync.errors import ConfigError

__all__ = ["Emulator"]

_log = logging.getLogger(__name__)


@define(kw_only=True, slots=False, eq=False)
class Emulator(Settings):
    """A stand-in for the provider: strict to its document, and as nasty as `trouble` says. Options: `Settings`.

    async with Emulator(limiter=FixedWindow(60, per=60), trouble=Trouble(cut_downloads=0.2)) as emu:
        async with WanSession(api_key=emu.api_key, base_url=emu.base_url) as wan: ...
        assert not emu.ledger.paid_twice()

    It lives on the loop that enters it. `clock` is its time, `ledger` what it remembers, `tasks` all tasks. Options
    may be changed while it runs (`emu.trouble = Trouble()`), other than addresses, key, clock, endpoints and videos.
    """

    clock: Clock = field(init=False)
    ledger: Ledger = field(init=False)
    tasks: TaskBook = field(factory=TaskBook, init=False)
    base_url: str = field(default="", init=False)
    video_url: str = field(default="", init=False)
    mirror_url: str = field(default="", init=False)
    _dice: Dice = field(init=False, repr=False)
    _provider: Provider = field(init=False, repr=False)
    _callbacks: Callbacks = field(init=False, repr=False)
    _rendering: Rendering | None = field(default=None, init=False, repr=False)
    _exit: contextlib.AsyncExitStack | None = field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        rng = Random(self.seed)  # noqa: S311 - repeatable on purpose
        dice = self._dice = Dice(lambda: self.trouble, Random(self.seed + 1))  # noqa: S311
        self.clock = Clock(speed=self.speed, epoch=self.epoch)
        self.ledger = Ledger(self.tasks, self.clock.now)
        self._provider = Provider(
            settings=self,
            book=self.tasks,
            dice=dice,
            rng=rng,
            links=Links(rng.randbytes(32)),
            now=self.clock.now,
            link_base=lambda: self.video_url,
            on_task=self._begin,
        )
        self._callbacks = Callbacks(self, self.clock, self.ledger, dice, self._provider.describe)

    # --- running

    async def __aenter__(self) -> Self:
        if self._exit is not None:
            raise ConfigError("this emulator is running already")
        async with contextlib.AsyncExitStack() as stack:
            await self._open(stack)
            self._exit = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stack, self._exit = self._exit, None
        if stack is not None:
            await stack.aclose()

    async def serve_forever(self, ready: Callable[[Emulator], object] = lambda _: None) -> None:
        """Run until cancelled; `ready` is called once the addresses are known."""
        async with self:
            ready(self)
            await asyncio.get_running_loop().create_future()

    async def _open(self, stack: contextlib.AsyncExitStack) -> None:
        self.clock.start()
        stack.callback(self.clock.stop)
        self._prepare_videos(stack)
        stack.push_async_callback(self._callbacks.close)
        host = VideoHost(
            settings=self,
            provider=self._provider,
            clock=self.clock,
            ledger=self.ledger,
            rng=Random(self.seed + 2),  # noqa: S311
            media=self._media,
            mirror=lambda: self.mirror_url,
        )
        # The video host answers under two origins, for redirects that lead from one to another.
        videos = await self._serve(stack, host.application(), self.video_port, 0)
        self.video_url, self.mirror_url = videos
        api = Api(self, self._provider, self.clock, self.ledger)
        (origin,) = await self._serve(stack, api.application(), self.port)
        self.base_url = origin + BASE_PATH

    def _prepare_videos(self, stack: contextlib.AsyncExitStack) -> None:
        if self.videos == "real":
            studio = VideoStudio(self.cache_dir, workers=self.render_workers)
            self._rendering = Rendering(studio, self.render_workers, self._rendered)
            stack.push_async_callback(self._rendering.close)

    async def _serve(self, stack: contextlib.AsyncExitStack, app: web.Application, *ports: int) -> tuple[str, ...]:
        """Serve on each port; the origins."""
        listeners = [stack.enter_context(_listen(self.host, port)) for port in ports]
        app.on_response_prepare.append(self._date)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, keepalive_timeout=self.keepalive)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        for listener in listeners:
            await web.SockSite(runner, listener, ssl_context=self.tls).start()
        scheme = "https" if self.tls else "http"
        return tuple(f"{scheme}://{_address(listener)}" for listener in listeners)

    async def _date(self, _: web.BaseRequest, reply: web.StreamResponse) -> None:
        """By our own clock, as everything else that a reply says of time; a date to return at is measured from it."""
        reply.headers["Date"] = formatdate(self.clock.now(), usegmt=True)

    # --- steering

    def advance(self, seconds: float) -> None:
        """Push the clock forward."""
        self.clock.advance(seconds)

    def script_next(self, lane: str, *faults: str) -> None:
        """What happens to the next requests of a lane, whatever `trouble` says: `script_next("submit", "reset")`.

        Further calls add to the end. Raises ValueError for a fault that the lane doesn't have.
        """
        self._dice.script_next(lane, faults)

    def cancel(self, task_id: str) -> None:
        """Cancel a task from the provider's side, as its dashboard can; KeyError if it is not under way."""
        task = self._under_way(task_id)
        self.tasks.end(task, self.clock.now(), outcome="cancelled")
        self._callbacks.expect(task)

    def finish(self, task_id: str) -> None:
        """Let a task end now, as it was going to."""
        task = self._under_way(task_id)
        self.tasks.end(task, self.clock.now())
        self._callbacks.expect(task)

    def video(self, task_id: str) -> bytes:
        """The whole video of a completed task, to compare with what was saved; KeyError if there is none."""
        task = self.tasks.get(task_id)
        media = self._media(task) if task is not None else None
        if media is None:
            raise KeyError(task_id)
        return media.read(0, media.size)

    def sha256(self, task_id: str) -> str:
        """Of the video, in hexadecimal."""
        return hashlib.sha256(self.video(task_id)).hexdigest()

    def _under_way(self, task_id: str) -> Task:
        task = self.tasks.get(task_id)
        if task is None or task.ended(self.clock.now()):
            raise KeyError(task_id)
        return task

    # --- between the parts

    def _begin(self, task: Task) -> None:
        if task.ends is None and self._rendering is not None:
            self._rendering.order(task)
        else:
            self._callbacks.expect(task)

    def _rendered(self, task: Task, error: Exception | None) -> None:
        now = self.clock.now()
        if task.ended(now):
            return
        if error is None:
            self.tasks.end(task, max(task.planned_end, now))
        else:
            self.tasks.end(task, now, outcome="failed", failure="service_error")
            _log.error("the video of %s could not be made", task.id, exc_info=error)
        self._callbacks.expect(task)

    def _media(self, task: Task) -> Media | None:
        if self._rendering is not None:
            return self._rendering.video(task)
        return tiny(self.clip, task.id, self.clip_bytes)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise ConfigError(
            f"the emulator can't listen on {host} port {port}: {error.strerror or error}", "port"
        ) from error


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
