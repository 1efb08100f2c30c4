from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import av
import pytest

from tests.emulator.making import BODY
from tests.emulator.test_app import call
from tests.emulator.test_cdn import get
from wanasync.emulator import Emulator
from wanasync.emulator.rendering import Rendering
from wanasync.emulator.tasks import Task
from wanasync.emulator.videos import VideoSpec, VideoStudio
from wanasync.errors import WanError

SMALL = BODY | {"quality": "480p", "aspect_ratio": "1:1"}


async def ended(emulator: Emulator, task_id: str) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            _, body, _ = await call(emulator, "GET", f"v1/tasks/{task_id}")
            if body["status"] not in ("pending", "processing"):
                return dict(body)
            await asyncio.sleep(0.05)


async def test_a_real_video_has_the_size_and_length_that_was_asked_for(tmp_path: Path) -> None:
    async with Emulator(videos="real", durations=0, cache_dir=tmp_path) as emulator:
        _, task, _ = await call(emulator, "POST", "v1/videos/generations", json=SMALL)
        done = await ended(emulator, task["id"])
        assert done["status"] == "completed"
        path = tmp_path / "saved.mp4"
        path.write_bytes((await get(done["results"][0])).body)
        assert path.read_bytes() == emulator.video(task["id"])
    with av.open(path) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 624, 624)
        assert container.duration is not None
        assert container.duration / 1_000_000 == pytest.approx(5, abs=0.1)


class Studio(VideoStudio):
    """Makes no videos: waits, then writes the prompt or fails over it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.at_once = self.most_at_once = 0
        self.begun: list[str] = []

    async def render(self, spec: VideoSpec) -> Path:
        self.begun.append(spec.prompt)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0.01)
        self.at_once -= 1
        if spec.prompt == "bad":
            raise WanError("no")
        path = self.folder / "video"
        path.write_text(spec.prompt)
        return path

    async def aclose(self) -> None: ...


async def rendered(folder: Path, prompts: list[str], workers: int) -> tuple[Studio, list[tuple[str, bool]]]:
    from tests.emulator.making import task, wish

    studio, seen, all_done = Studio(folder), list[tuple[str, bool]](), asyncio.Event()

    def done(one: Task, error: Exception | None) -> None:
        seen.append((one.wish.prompt, error is None))
        if len(seen) == len(prompts):
            all_done.set()

    rendering = Rendering(studio, workers, done)
    for number, prompt in enumerate(prompts):
        rendering.order(task(number, wish=wish(prompt)))
    async with asyncio.timeout(10):
        await all_done.wait()
    await rendering.close()
    return studio, seen


async def test_videos_are_made_in_order_by_so_many_workers(tmp_path: Path) -> None:
    prompts = [f"prompt {number}" for number in range(8)]
    studio, seen = await rendered(tmp_path, prompts, 2)
    assert studio.most_at_once == 2
    assert studio.begun == prompts
    # Two that are made at the same time may be done in either order.
    assert sorted(prompt for prompt, _ in seen) == prompts


async def test_a_video_that_cannot_be_made_fails_alone(tmp_path: Path) -> None:
    _, seen = await rendered(tmp_path, ["good", "bad", "good"], 1)
    assert [fine for _, fine in seen] == [True, False, True]


async def test_closing_stops_the_queue(tmp_path: Path) -> None:
    from tests.emulator.making import task

    seen: list[Task] = []
    rendering = Rendering(Studio(tmp_path), 1, lambda one, _: seen.append(one))
    for number in range(5):
        rendering.order(task(number))
    await asyncio.sleep(0)
    await rendering.close()
    await asyncio.sleep(0.05)
    assert seen == []


async def test_a_task_ends_when_its_video_is_there_and_not_before_its_time() -> None:
    async with Emulator(videos="real", durations=1000) as emulator:
        _, task, _ = await call(emulator, "POST", "v1/videos/generations", json=SMALL)
        one = emulator.tasks.get(task["id"])
        assert one is not None
        assert one.ends is None
        emulator._rendered(one, None)
        assert one.ends == one.created + 1000
        emulator.advance(2000)
        _, late, _ = await call(emulator, "POST", "v1/videos/generations", json=SMALL)
        emulator.advance(5000)
        other = emulator.tasks.get(late["id"])
        assert other is not None
        emulator._rendered(other, None)
        assert other.ends == pytest.approx(emulator.clock.now(), abs=5)


async def test_a_task_whose_video_cannot_be_made_fails_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with Emulator(videos="real", durations=0) as emulator:
        _, task, _ = await call(emulator, "POST", "v1/videos/generations", json=SMALL)
        one = emulator.tasks.get(task["id"])
        assert one is not None
        emulator._rendered(one, WanError("no codec"))
        _, body, _ = await call(emulator, "GET", f"v1/tasks/{task['id']}")
        assert (body["status"], body["error"]["code"]) == ("failed", "service_error")
        assert emulator.ledger.credits_released == 2.5
    assert "could not be made" in caplog.text
