"""Where one video goes, found free before it is paid for: a file, or a name in an object store."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from attrs import frozen

from wanasync.edges.download import Existing
from wanasync.edges.objects import Shelf, Slot
from wanasync.edges.targets import free_target
from wanasync.errors import DownloadError
from wanasync.rules.destination import Destination
from wanasync.rules.naming import safe_stem

__all__ = ["Place", "free_place"]


@frozen
class Place:
    """`path` is the file itself; with a `slot`, the directory that the video passes through."""

    path: Path
    slot: Slot | None = None

    def target(self, task_id: str) -> Path:
        """The file to fetch to. On the way to a store it bears the task's name: what it holds is nobody else's."""
        return self.path if self.slot is None else self.path / f"{safe_stem(task_id, 'video')}.mp4"

    @property
    def existing(self) -> Existing:
        return Existing.REFUSE if self.slot is None else Existing.ADOPT


async def free_place(to: str | os.PathLike[str], stem: str, state: str | os.PathLike[str] | None = None) -> Place:
    """The place that `to` means; `stem` names the video where it doesn't.

    Raises `DownloadError` where the name is taken or can't be written, `ConfigError` for what can't be right.
    """
    destination = Destination.of(to, state)
    if destination.url is None:
        return Place(await asyncio.to_thread(free_target, to if "://" not in str(to) else destination.directory, stem))
    destination, name = destination.file(stem)
    slot = Shelf.open(destination.url or "").slot(name)
    if not await slot.is_free():
        raise DownloadError(f"{slot.url} exists already; choose another name or remove it", path=slot.url)
    return Place(destination.directory, slot)
