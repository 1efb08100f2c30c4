"""The emulator's videos: real H.264 MP4s of the asked size and length with the prompt drawn in, and a tiny clip.

Importing this module needs neither PyAV nor Pillow; making videos does (`pip install 'wanasync[emulator]'`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self
from uuid import uuid4

from attrs import astuple, field, frozen

from wanasync.errors import ConfigError, WanError

if TYPE_CHECKING:
    from wanasync.emulator.fonts import FontLibrary

__all__ = ["TINY_CLIP", "VideoSpec", "VideoStudio"]

STYLE = 1  # part of each cache key: raise it when videos are to look different
LARGEST_SIDE = 4096
LONGEST = 60  # seconds

log: logging.Logger = logging.getLogger("wanasync.emulator")

TINY_CLIP: bytes = files("wanasync.emulator").joinpath("data/tiny.mp4").read_bytes()
"""A playable MP4 of a few KB, for loads; made by `python -m wanasync.emulator.make_tiny_clip`."""


@frozen
class VideoSpec:
    """What a video is to show and measure. The same spec gives the same video.

    `width` and `height` in pixels, both even (H.264 in its common form has colours at half the resolution);
    `seconds` of play; `model` and `label` are shown in small type. Raises ConfigError for what can't be made.
    """

    prompt: str
    width: int
    height: int
    seconds: float
    fps: int = 24
    model: str = ""
    label: str = field()

    @label.default
    def _measures(self) -> str:
        return f"{self.width}×{self.height} · {self.seconds:g} s"

    def __attrs_post_init__(self) -> None:
        for name, side in (("width", self.width), ("height", self.height)):
            if side % 2 or not 16 <= side <= LARGEST_SIDE:
                raise ConfigError(f"{name} must be an even number of 16 to {LARGEST_SIDE} pixels, not {side}", name)
        if not 0 < self.seconds <= LONGEST or not 1 <= self.fps <= 120:
            raise ConfigError(f"a video has up to {LONGEST} s at 1 to 120 frames a second", "seconds")

    @property
    def frames(self) -> int:
        return max(1, round(self.seconds * self.fps))


class VideoStudio:
    """Makes videos in threads, beside the event loop, and keeps them on disk.

    `cache_dir` keeps them for later runs; without one, or where it can't be written, they live in a temporary folder
    that goes when the studio is closed. `workers` videos are made at once, each by one thread (PyAV and x264 release
    the GIL). A studio serves one event loop at a time. Raises ConfigError where PyAV or Pillow is missing.
    """

    def __init__(self, cache_dir: Path | None = None, workers: int = 2, fonts: FontLibrary | None = None) -> None:
        missing = [package for package, module in (("av", "av"), ("pillow", "PIL")) if not find_spec(module)]
        if missing:
            raise _not_installed(" and ".join(missing))
        self._shelf = _Shelf(cache_dir)
        self._fonts = fonts
        self._jobs: dict[VideoSpec, asyncio.Future[Path]] = {}
        self._closed = threading.Event()
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="wanasync-video")

    async def render(self, spec: VideoSpec) -> Path:
        """The finished file; it stays in place until the studio is closed, in a `cache_dir` beyond that.

        Who asks for the same video at the same time shares the work; it goes on when one of them is cancelled.
        Raises ConfigError when the studio is closed, WanError when the video can't be made or stored.
        """
        if self._closed.is_set():
            raise _is_closed()
        loop = asyncio.get_running_loop()
        job = self._jobs.get(spec)
        if job is None or job.get_loop() is not loop:
            job = self._jobs[spec] = loop.run_in_executor(self._executor, self._make, spec)
            job.add_done_callback(lambda done: self._forget(spec, done))
        return await asyncio.shield(job)

    def close(self) -> None:
        """Stop what is being made (within a frame or so) and remove the temporary folder. Harmless when repeated."""
        self._closed.set()
        self._executor.shutdown()
        self._shelf.close()

    async def aclose(self) -> None:
        """`close` without holding up the event loop."""
        self._closed.set()
        await asyncio.to_thread(self.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _forget(self, spec: VideoSpec, done: asyncio.Future[Path]) -> None:
        if self._jobs.get(spec) is done:
            del self._jobs[spec]

    def _make(self, spec: VideoSpec) -> Path:
        """In a worker thread: from the shelf, else from scratch."""
        if self._closed.is_set():
            raise _is_closed()
        try:
            from wanasync.emulator.film import RenderStopped, make_film
            from wanasync.emulator.fonts import installed_fonts
        except ImportError as error:
            raise _not_installed(str(error)) from error
        fonts = self._fonts or installed_fonts()
        try:
            return self._shelf.get(
                _key(spec, fonts), lambda path: make_film(spec, path, fonts, stopped=self._closed.is_set)
            )
        except RenderStopped:
            raise _is_closed() from None
        except (OSError, ValueError) as error:  # PyAV's errors are one or the other
            raise WanError(f"the video could not be made: {error}") from error


def _key(spec: VideoSpec, fonts: FontLibrary) -> str:
    """The name on the shelf. Fonts count: who installs one wants to see it."""
    return sha256(ascii((STYLE, astuple(spec), fonts.fingerprint)).encode()).hexdigest()[:32]


def _not_installed(what: str) -> ConfigError:
    return ConfigError(f"making videos needs more libraries ({what}): pip install 'wanasync[emulator]'", "videos")


def _is_closed() -> ConfigError:
    return ConfigError("the video studio is closed")


class _Shelf:
    """A folder of files named `KEY.DIGEST.mp4`: the digest of the content tells a damaged file from a sound one."""

    def __init__(self, wanted: Path | None) -> None:
        self._wanted = wanted
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._checked: dict[Path, tuple[int, int]] = {}

    def get(self, key: str, make: Callable[[Path], None]) -> Path:
        """The file of `key`; `make` writes it where there is none yet."""
        folder = self._open()
        found = next(filter(self._is_sound, sorted(folder.glob(f"{key}.*.mp4"))), None)
        return found or self._store(folder, key, make)

    def close(self) -> None:
        with self._lock:
            if self._temporary is not None:
                self._temporary.cleanup()
            self._temporary = self._folder = None

    def _store(self, folder: Path, key: str, make: Callable[[Path], None]) -> Path:
        part = folder / f".{key}.{uuid4().hex}.part"  # several processes may share the folder
        try:
            make(part)
            path = folder / f"{key}.{_digest(part)}.mp4"
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        self._checked[path] = _signature(path)
        return path

    def _is_sound(self, path: Path) -> bool:
        """Whether the content is what was written; read only when the file has changed since the last look."""
        if self._checked.get(path) == _signature(path):
            return True
        if path.name.split(".")[1] == _digest(path):
            self._checked[path] = _signature(path)
            return True
        log.warning("%s is damaged and is made anew", path)
        with suppress(OSError):
            path.unlink()
        return False

    def _open(self) -> Path:
        with self._lock:
            if self._folder is None:
                self._folder = self._usable(self._wanted) or self._make_temporary()
            return self._folder

    def _make_temporary(self) -> Path:
        self._temporary = tempfile.TemporaryDirectory(prefix="wanasync-videos-", ignore_cleanup_errors=True)
        return Path(self._temporary.name)

    @staticmethod
    def _usable(folder: Path | None) -> Path | None:
        if folder is None:
            return None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError as error:
            log.warning("videos can't be kept in %s (%s); a temporary folder is used", folder, error)
            return None


def _signature(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()[:16]
