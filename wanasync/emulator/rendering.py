"""Renders the videos of real tasks in the background, in the order in which they were asked for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from attrs import define, field

from wanasync.emulator.media import FRAME_SIZES, FileMedia
from wanasync.emulator.tasks import Task
from wanasync.emulator.videos import VideoSpec, VideoStudio

__all__ = ["Rendering"]


@define(eq=False)
class Rendering:
    """`on_done` is called with each task when its video is there, or the reason why it can't be."""

    _studio: VideoStudio
    workers: int
    on_done: Callable[[Task, Exception | None], None]
    _queue: deque[Task] = field(factory=deque, init=False)
    _videos: dict[str, FileMedia] = field(factory=dict, init=False)
    _running: set[asyncio.Task[None]] = field(factory=set, init=False)

    def video(self, task: Task) -> FileMedia | None:
        return self._videos.get(task.id)

    def order(self, task: Task) -> None:
        self._queue.append(task)
        if len(self._running) < self.workers:
            worker = asyncio.get_running_loop().create_task(self._work())
            self._running.add(worker)
            worker.add_done_callback(self._running.discard)

    async def close(self) -> None:
        self._queue.clear()
        for worker in self._running:
            worker.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._studio.aclose()

    async def _work(self) -> None:
        while self._queue:
            task = self._queue.popleft()
            try:
                await self._render(task)
            except Exception as error:  # noqa: BLE001 - whatever a codec raises, the task fails and the rest go on
                self.on_done(task, error)
            else:
                self.on_done(task, None)

    async def _render(self, task: Task) -> None:
        path = await self._studio.render(_spec(task))
        self._videos[task.id] = await asyncio.to_thread(FileMedia.of, path, task.id)


def _spec(task: Task) -> VideoSpec:
    wish = task.wish
    width, height = FRAME_SIZES[wish.quality][wish.aspect_ratio]
    return VideoSpec(prompt=wish.prompt, width=width, height=height, seconds=wish.seconds, model=wish.model)
