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
    name = task_id.encode()
    total = max(size or 0, len(clip) + 8 + len(name))
    box = struct.pack(">I4s", total - len(clip), b"free") + name
    return TinyMedia(clip + box, total)


@frozen
class FileMedia:
    """A rendered file. Reading it takes a system call: not on the loop for more than a piece at a time."""

    path: Path
    size: int
    etag: str

    @classmethod
    def of(cls, path: Path) -> FileMedia:
        status = path.stat()
        return cls(path, status.st_size, f'"{status.st_mtime_ns:x}-{status.st_size:x}"')

    def read(self, start: int, stop: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)
