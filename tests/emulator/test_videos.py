from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.films import boxes, watch
from wanasync.emulator import film
from wanasync.emulator.fonts import FontLibrary
from wanasync.emulator.make_tiny_clip import TINY, main
from wanasync.emulator.videos import TINY_CLIP, VideoSpec, VideoStudio
from wanasync.errors import ConfigError, WanError
from wanasync.testing import virtual_time


def spec(prompt: str = "A cat plays piano", seconds: float = 0.5) -> VideoSpec:
    return VideoSpec(prompt, 128, 72, seconds, fps=8)


def files(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The prompts of the films that were made from scratch, in their order."""
    prompts: list[str] = []
    make_film = film.make_film

    def counted(spec: VideoSpec, path: Path, library: FontLibrary, stopped: Callable[[], bool]) -> None:
        prompts.append(spec.prompt)
        make_film(spec, path, library, stopped)

    monkeypatch.setattr(film, "make_film", counted)
    return prompts


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Films are begun at once and end when this is set, or the studio is closed."""
    free = threading.Event()
    make_film = film.make_film

    def waiting(spec: VideoSpec, path: Path, library: FontLibrary, stopped: Callable[[], bool]) -> None:
        path.write_bytes(b"begun")
        while not free.wait(0.01):
            if stopped():
                raise film.RenderStopped
        make_film(spec, path, library, stopped)

    monkeypatch.setattr(film, "make_film", waiting)
    return free


async def test_a_rendered_video_can_be_watched() -> None:
    async with VideoStudio() as studio:
        found = watch(await studio.render(spec("猫")))
    assert (found.codec, found.size, len(found.pictures), found.seconds) == ("h264", (128, 72), 4, 0.5)


async def test_the_same_video_is_made_once(made: list[str], tmp_path: Path) -> None:
    async with VideoStudio(tmp_path) as studio:
        first = await studio.render(spec())
        assert await studio.render(spec()) == first
    async with VideoStudio(tmp_path) as another:
        assert await another.render(spec()) == first
    assert len(made) == 1


async def test_whatever_can_be_seen_makes_another_video(made: list[str], tmp_path: Path) -> None:
    base = spec()
    others = [
        VideoSpec("Another", 128, 72, 0.5, fps=8),
        VideoSpec(base.prompt, 144, 72, 0.5, fps=8),
        VideoSpec(base.prompt, 128, 72, 1, fps=8),
        VideoSpec(base.prompt, 128, 72, 0.5, fps=6),
        VideoSpec(base.prompt, 128, 72, 0.5, fps=8, model="other"),
        VideoSpec(base.prompt, 128, 72, 0.5, fps=8, label="other"),
    ]
    async with VideoStudio(tmp_path) as studio:
        paths = {await studio.render(each) for each in (base, *others)}
    async with VideoStudio(tmp_path, fonts=FontLibrary(())) as bare:
        paths.add(await bare.render(base))
    assert len(paths) == len(made) == 8


async def test_who_asks_at_the_same_time_shares_the_work(made: list[str]) -> None:
    async with VideoStudio() as studio:
        paths = await asyncio.gather(*(studio.render(spec()) for _ in range(20)))
    assert len(set(paths)) == len(made) == 1


async def test_a_cancelled_wait_leaves_the_video_to_others(held: threading.Event) -> None:
    async with VideoStudio() as studio:
        first = asyncio.ensure_future(studio.render(spec()))
        second = asyncio.ensure_future(studio.render(spec()))
        await asyncio.sleep(0.02)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        held.set()
        assert len(watch(await second).pictures) == 4


async def test_a_video_goes_on_when_nobody_waits_any_more(held: threading.Event, tmp_path: Path) -> None:
    async with VideoStudio(tmp_path) as studio:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(studio.render(spec()), 0.02)
        held.set()
        path = await studio.render(spec())
    assert files(tmp_path) == [path.name]


async def test_the_event_loop_goes_on_meanwhile() -> None:
    async with VideoStudio(workers=1) as studio:
        job = asyncio.ensure_future(studio.render(VideoSpec("A long film", 640, 360, 5)))
        turns = 0
        while not job.done():
            await asyncio.sleep(0.005)
            turns += 1
        await job
    assert turns > 10


@virtual_time
async def test_virtual_time_waits_for_the_video() -> None:
    loop = asyncio.get_running_loop()
    async with VideoStudio() as studio:
        timer = loop.call_later(3600, lambda: None)
        began = loop.time()
        await studio.render(spec())
        assert loop.time() - began < 3600
        timer.cancel()


async def test_a_damaged_file_is_noticed_and_made_anew(
    made: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with VideoStudio(tmp_path) as studio:
        path = await studio.render(spec())
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with caplog.at_level(logging.WARNING):
            again = await studio.render(spec())
        assert again.read_bytes() == whole
    assert len(made) == 2
    assert "damaged" in caplog.text


async def test_a_file_that_was_deleted_is_made_anew(made: list[str], tmp_path: Path) -> None:
    async with VideoStudio(tmp_path) as studio:
        (await studio.render(spec())).unlink()
        assert (await studio.render(spec())).is_file()
    assert len(made) == 2


async def test_a_folder_that_cannot_be_written_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    async with VideoStudio(tmp_path / "file" / "cache") as studio:
        with caplog.at_level(logging.WARNING):
            path = await studio.render(spec())
        assert len(watch(path).pictures) == 4
    assert "temporary folder" in caplog.text
    assert not path.parent.exists()


async def test_the_temporary_folder_goes_with_the_studio() -> None:
    studio = VideoStudio()
    path = await studio.render(spec())
    assert path.is_file()
    await studio.aclose()
    assert not path.parent.exists()
    studio.close()  # again is harmless


async def test_no_thread_stays_behind() -> None:
    before = threading.active_count()
    async with VideoStudio() as studio:
        await asyncio.gather(studio.render(spec("one")), studio.render(spec("two")))
    assert not [thread.name for thread in threading.enumerate() if "wanasync-video" in thread.name]
    assert threading.active_count() <= before + 1  # asyncio's own, which closed the studio


async def test_a_closed_studio_says_so() -> None:
    studio = VideoStudio()
    await studio.aclose()
    with pytest.raises(ConfigError, match="closed"):
        await studio.render(spec())


async def test_closing_ends_what_is_under_way(held: threading.Event, tmp_path: Path) -> None:
    studio = VideoStudio(tmp_path, workers=1)
    waits = [asyncio.ensure_future(studio.render(spec(prompt))) for prompt in ("begun", "queued")]
    await asyncio.sleep(0.05)
    await studio.aclose()
    for wait in waits:
        with pytest.raises(ConfigError, match="closed"):
            await wait
    assert files(tmp_path) == []


async def test_one_studio_serves_one_loop_after_another(made: list[str]) -> None:
    studio = VideoStudio()
    elsewhere = await asyncio.to_thread(lambda: asyncio.run(studio.render(spec())))
    assert await studio.render(spec()) == elsewhere
    assert len(made) == 1
    await studio.aclose()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("odd picture")])
async def test_a_video_that_cannot_be_made_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    def failing(spec: VideoSpec, path: Path, library: FontLibrary, stopped: Callable[[], bool]) -> None:
        path.write_bytes(b"half a film")
        raise error

    monkeypatch.setattr(film, "make_film", failing)
    async with VideoStudio(tmp_path) as studio:
        with pytest.raises(WanError, match="could not be made") as caught:
            await studio.render(spec())
    assert caught.value.__cause__ is error
    assert files(tmp_path) == []


@pytest.mark.parametrize(("module", "package"), [("av", "av"), ("PIL", "pillow")])
def test_what_is_not_installed_is_named_with_the_way_to_get_it(
    monkeypatch: pytest.MonkeyPatch, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"\({package}\).*pip install 'wanasync\[emulator\]'"):
        VideoStudio()


def test_importing_needs_neither_pyav_nor_pillow() -> None:
    code = "import sys, wanasync.emulator.videos; sys.exit(bool({'av', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "wrong", [{"width": 129}, {"height": 8}, {"width": 5000}, {"seconds": 0}, {"seconds": 61}, {"fps": 0}]
)
def test_a_spec_that_cannot_be_made_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        VideoSpec(**{"prompt": "x", "width": 128, "height": 72, "seconds": 1, **wrong})  # type: ignore[arg-type]


def test_the_tiny_clip_is_small_and_plays() -> None:
    found = watch(TINY_CLIP)
    assert len(TINY_CLIP) < 10_000
    assert (found.codec, found.size, len(found.pictures), found.seconds) == ("h264", (128, 72), TINY.frames, 1.0)
    order = boxes(TINY_CLIP)
    assert order.index("moov") < order.index("mdat")


def test_the_tiny_clip_can_be_made_anew(tmp_path: Path) -> None:
    main(tmp_path / "new" / "tiny.mp4")
    assert len(watch(tmp_path / "new" / "tiny.mp4").pictures) == TINY.frames
