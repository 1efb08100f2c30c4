"""A disk whose power can be cut: what of a folder would be left, by what was synced and what was not."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

__all__ = ["BEGINNINGS", "SURVIVALS", "SYNCED_ONLY", "Disk", "restore"]

SYNCED_ONLY = "synced only"
"""Contents and names as of their last sync: whatever came after is gone."""

BEGINNINGS = "names and beginnings"
"""All names as they are, but of contents that were not synced only a beginning; behind it there are zeros. So it looks
where a file system writes its own records down before the data they speak of."""

SURVIVALS = (SYNCED_ONLY, BEGINNINGS)

_BEGINNING = 2**16


class Disk:
    """Watches `folder`, as it is now, and all that is made in it.

    `happened` is called after each step that changes what a power cut would leave, with a word for it. SQLite's syncs
    can't be seen from here: `sync_file` is to be called where they are known to have come to their end.
    """

    def __init__(self, folder: Path, happened: Callable[[str], None]) -> None:
        self.folder = folder
        self._happened = happened
        self._contents: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        # While a file is open its number is given to no other.
        self._open: dict[int, int] = {}
        self._lock = threading.RLock()
        self._sync_directory(folder)

    def close(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Take the place of the calls by which Python changes names and syncs."""
        patch.setattr(os, "fsync", self._fsync)
        for name in ("replace", "rename", "link", "unlink", "mkdir"):
            patch.setattr(os, name, self._watched(name, getattr(os, name)))

    def _fsync(self, descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.is_relative_to(self.folder):
            if path.is_dir():
                self._sync_directory(path)
            else:
                self.sync_file(path)
            self._happened(f"synced {path.suffix or path.name}")

    def _watched(self, name: str, function: Callable[..., None]) -> Callable[..., None]:
        def watched(path: str | Path, *arguments: object, **options: object) -> None:
            function(path, *arguments, **options)
            if Path(os.fsdecode(path)).is_relative_to(self.folder):
                self._happened(name)

        return watched

    def sync_file(self, path: Path) -> None:
        """What the file holds is safe from now on; its name only once its directory is synced."""
        with self._lock:
            self._contents[self._number(path)] = path.read_bytes()

    def _sync_directory(self, path: Path) -> None:
        with self._lock, os.scandir(path) as entries:
            self._names[self._number(path)] = {entry.name: self._number(Path(entry.path)) for entry in entries}

    def _number(self, path: Path) -> int:
        number = path.lstat().st_ino
        if number not in self._open:
            self._open[number] = os.open(path, os.O_PATH | os.O_NOFOLLOW)
        return number

    def left(self, survival: str) -> dict[str, bytes]:
        """The files, by their paths in the folder, that would be there after a power cut now."""
        with self._lock:
            walk = self._walk_synced(self.folder.lstat().st_ino, "") if survival == SYNCED_ONLY else self._walk_now()
            return dict(walk)

    def _walk_synced(self, directory: int, above: str) -> Iterator[tuple[str, bytes]]:
        for name, number in self._names.get(directory, {}).items():
            if stat.S_ISDIR(os.fstat(self._open[number]).st_mode):
                yield from self._walk_synced(number, f"{above}{name}/")
            else:
                yield f"{above}{name}", self._contents.get(number, b"")

    def _walk_now(self) -> Iterator[tuple[str, bytes]]:
        for path in self.folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # other threads go on meanwhile
                if path.is_file():
                    yield str(path.relative_to(self.folder)), self._content_now(path)

    def _content_now(self, path: Path) -> bytes:
        synced = self._contents.get(path.lstat().st_ino)
        if synced is not None:
            return synced
        with path.open("rb") as file:
            beginning = file.read(_BEGINNING)
            return beginning + bytes(os.fstat(file.fileno()).st_size - len(beginning))


def restore(files: Mapping[str, bytes], folder: Path) -> None:
    """Lay down what was left, as the machine finds it when it starts again."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
