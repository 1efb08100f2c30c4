"""The bytes behind a link. Pure, but for reading files that were rendered."""

from __future__ import annotations

import hashlib
import random
import struct
from pathlib import Path
from typing import Protocol

from attrs import frozen

__all__ = ["FRAME_SIZES", "FileMedia", "Media", "TinyMedia", "tiny"]

# Wan 2.5's own pixel counts per quality, in the shapes that the provider's document lists; even, as H.264 asks.
FRAME_SIZES: dict[str, dict[str, tuple[int, int]]] = {
    "480p": {"16:9": (832, 480), "9:16": (480, 832), "1:1": (624, 624)},
    "720p": {"16:9": (1280, 720), "9:16": (720, 1280), "1:1": (960, 960), "4:3": (1088, 832), "3:4": (832, 1088)},
    "1080p": {
        "16:9": (1920, 1080),
        "9:16": (1080, 1920),
        "1:1": (1440, 1440),
        "4:3": (1632, 1248),
        "3:4": (1248, 1632),
    },
}


class Media(Protocol):
    """A video that can be read in parts."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    @property
    def etag(self) -> str:
        """A strong entity tag, quotes included."""
        ...

    def read(self, start: int, stop: int) -> bytes:
        """Bytes `start` up to, not including, `stop`."""
        ...


# Its length is prime, so that no part of a padded clip equals another at a round offset: a client that joins
# pieces at the wrong place gets the wrong checksum.
_PADDING = random.Random(0).randbytes(65_521)  # noqa: S311 - padding, not a secret


@frozen
class TinyMedia:
    """A ready-made clip, followed by a `free` box that names the task and fills it up to the size asked for.

    MP4 readers skip such boxes. So every task has its own bytes, at no cost, and any size can be had for load.
    """

    head: bytes
    size: int

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.head).hexdigest()[:16]}-{self.size:x}"'

    def read(self, start: int, stop: int) -> bytes:
        stop = min(stop, self.size)
        part = self.head[start:stop]
        at = max(start, len(self.head))
        if at >= stop:
            return part
        shift = at % len(_PADDING)
        repeats = (shift + stop - at) // len(_PADDING) + 1
        return part + (_PADDING * repeats)[shift : shift + stop - at]


def tiny(clip: bytes, task_id: str, size: int | None = None) -> TinyMedia:
    """The clip as this task's own, `size` bytes long where that is more than it needs."""
    total = max(size or 0, len(clip) + len(_box(task_id)))
    return TinyMedia(clip + _box(task_id, total - len(clip)), total)


@frozen
class FileMedia:
    """A rendered file, made this task's own in the same way.

    Reading it takes a system call: not on the loop for more than a piece at a time.
    """

    path: Path
    file_size: int
    tail: bytes

    @classmethod
    def of(cls, path: Path, task_id: str) -> FileMedia:
        return cls(path, path.stat().st_size, _box(task_id))

    @property
    def size(self) -> int:
        return self.file_size + len(self.tail)

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.tail).hexdigest()[:16]}-{self.size:x}"'

    def read(self, start: int, stop: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(min(start, self.file_size))
            part = file.read(max(0, min(stop, self.file_size) - start))
        return part + self.tail[max(0, start - self.file_size) : max(0, stop - self.file_size)]


def _box(task_id: str, size: int | None = None) -> bytes:
    """An MP4 box that readers skip, holding a task id; its head may announce more than is given here."""
    name = task_id.encode()
    return struct.pack(">I4s", 8 + len(name) if size is None else size, b"free") + name
