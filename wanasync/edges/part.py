"""The part of a video: the file under way, beside its target, and how it gets its target's name.

A record beside the part says what its bytes are, so that a later attempt, of a later run too, goes on where this one
stopped. Everything here blocks: it is called in threads.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import functools
import hashlib
import io
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import define, evolve, frozen

from wanasync.edges.durable import make_directory, sync_directory
from wanasync.errors import DownloadError
from wanasync.rules.containers import video_problem
from wanasync.rules.links import PartRecord, part_from_json, part_to_json

try:
    import fcntl
except ImportError:  # Windows: nothing keeps two processes from one part there, as file names are unique anyway
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["Existing", "Part", "TransferError", "Whole", "already_there"]

_LONGEST_RECORD = 2**16

_PIECE = 2**14
"""Bytes that are worth a system call."""

_OPENINGS = 100
"""A part may be gone between its opening and its lock, so it is opened anew; but not for ever."""

_LONGEST_NAME = 255
"""Bytes of a file name on the usual file systems."""


class Existing(enum.Enum):
    """What to do where the target exists already."""

    REFUSE = "refuse"
    OVERWRITE = "overwrite"
    ADOPT = "adopt"
    """Take it for the video, if it is a whole one: for names that belong to one task alone. A run that was killed
    between the rename and its note of it finds its file this way."""


@define(eq=False, slots=False)
class TransferError(DownloadError):
    """The transfer failed or broke off; trying again goes on with what is there.

    `gained` is how many bytes this attempt added to what the next one need not fetch; `retry_after` the wait in
    seconds that the host asked for.
    """

    gained: int = 0
    retry_after: float | None = None


@frozen
class Whole:
    """A file under its final name."""

    size: int
    sha256: str
    resumed_from: int = 0


class Part(io.FileIO):
    """The file under way. `kept` of its bytes are good; they are the whole file where `is_complete`.

    One writer at a time: the file is locked while it is open.
    """

    def __init__(self, path: Path, wanted: PartRecord) -> None:
        super().__init__(path, "r+", opener=_open_part)
        self.path: Path = path
        self.wanted: PartRecord = wanted
        self.record: PartRecord = wanted
        self.kept: int = 0
        self._hash = hashlib.sha256()
        self._resumed_from = 0

    @classmethod
    def begin(cls, target: Path, task_id: str, identity: str) -> Part:
        """Open the target's part, with what an earlier attempt left in it."""
        path = _part_path(target)
        wanted = PartRecord(task_id, identity, _boot())
        for _ in range(_OPENINGS):
            part = cls(path, wanted)
            try:
                part._lock(target)
                if part._is_in_place():
                    part._recall()
                    return part
            except BaseException:
                io.FileIO.close(part)
                raise
            io.FileIO.close(part)
        raise DownloadError(f"{target} can't be written: something else keeps changing {path}")

    def _lock(self, target: Path) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DownloadError(f"{target} is being written by another download") from error
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL):
                raise  # those say that this file system has no locks

    def _is_in_place(self) -> bool:
        """Whether this is still the part. Its last owner may have published it between our opening and our lock, or
        have died between the link and the unlink: then writing to it would change a finished video."""
        mine = os.fstat(self.fileno())
        if mine.st_nlink > 1:
            self.path.unlink(missing_ok=True)
            return False
        try:
            return os.path.samestat(mine, self.path.lstat())
        except FileNotFoundError:
            return False

    def _recall(self) -> None:
        record = _read_record(self.path)
        if record is not None and record.belongs_to(self.wanted):
            self.record = record
            self.kept = record.usable(os.fstat(self.fileno()).st_size)

    @property
    def is_complete(self) -> bool:
        return self.kept > 0 and self.kept == self.record.total

    def start_over(self, record: PartRecord) -> None:
        """Drop what is there; what comes is what `record` describes."""
        self.truncate(0)
        self.seek(0)
        self._hash = hashlib.sha256()
        self.kept = self._resumed_from = 0
        self.record = record
        if record.total is not None or record.validator is not None:
            _write_record(self.path, record)
        else:
            _record_path(self.path).unlink(missing_ok=True)

    def go_on(self, total: int) -> None:
        """Stand behind the bytes that are there, with their hash."""
        self.seek(0)
        self._hash = hashlib.file_digest(self, "sha256")
        self._resumed_from = self.kept
        self.record = evolve(self.record, total=total)

    def writelines(self, lines: Iterable[ReadableBuffer]) -> None:
        """Append a block and hash it. Where the disk refuses, the file ends with the last piece that went in whole."""
        for piece in _coarse([bytes(line) for line in lines]):
            try:
                self._write_all(piece)
            except OSError:
                with contextlib.suppress(OSError):
                    self.truncate(self.kept)
                    self.seek(self.kept)
                raise
            self._hash.update(piece)
            self.kept += len(piece)

    def _write_all(self, piece: bytes) -> None:
        rest = memoryview(piece)
        while rest:
            rest = rest[self.write(rest) :]

    def publish(self, target: Path, existing: Existing) -> Whole:
        """Check the file and put it under its name, durably."""
        self._check()
        os.fsync(self.fileno())
        if os.name == "nt":
            super().close()  # an open file can't be renamed there
        _place(self.path, target, existing)
        _record_path(self.path).unlink(missing_ok=True)
        sync_directory(target.parent)
        whole = Whole(self.kept, self._hash.hexdigest(), self._resumed_from)
        super().close()
        return whole

    def _check(self) -> None:
        total = self.record.total
        if total is not None and self.kept < total:
            raise TransferError(f"{self.kept} of {total} bytes came")
        problem = video_problem(self._read_at, self.kept, length_known=total is not None)
        if problem is None and self.kept != (total or self.kept):
            problem = f"{self.kept} bytes came instead of {total}"
        if problem is not None:
            # Without a known length the rest may still come; a whole file that is wrong stays wrong.
            if total is not None:
                self.start_over(self.wanted)
            raise TransferError(f"what came is not a whole video: {problem}")

    def _read_at(self, offset: int, size: int) -> bytes:
        self.seek(offset)
        return self.read(size)

    def close(self) -> None:
        """Leave the part to a later attempt, unless there is nothing in it."""
        if not self.closed and not self.kept:
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)
                _record_path(self.path).unlink(missing_ok=True)
        super().close()


def _coarse(pieces: list[bytes]) -> list[bytes]:
    """The same bytes in pieces worth a system call each. Large ones are left, to spare memory a copy of the block."""
    large = sum(map(len, pieces)) >= _PIECE * len(pieces)
    return pieces if large else [b"".join(pieces)]


def _open_part(path: str, flags: int) -> int:
    # Not through a symbolic link: in a shared directory someone else may have put it there.
    return os.open(path, flags | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _part_path(target: Path) -> Path:
    name = f".{target.name}.part"
    if len(os.fsencode(f"{name}.json")) > _LONGEST_NAME:
        name = f".{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:32]}.part"
    return target.with_name(name)


def _record_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_record(part: Path) -> PartRecord | None:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(_record_path(part), flags)
    except OSError:
        return None
    with open(descriptor, "rb") as file:
        return part_from_json(file.read(_LONGEST_RECORD))


def _write_record(part: Path, record: PartRecord) -> None:
    """As a new file, whatever stands under its name: that could be a link to any file of the user's."""
    path = _record_path(part)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o666)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(part_to_json(record))


@functools.cache
def _boot() -> str:
    """Names this run of the operating system; empty where it has no such name."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def already_there(target: Path, existing: Existing) -> Whole | None:
    """What stands under the target's name already, if that is what is wanted. Raises where the name is not free.

    Makes the target's parents first, so that a name that can't be had is found before anything is fetched for it.
    """
    if not _is_nameable(target):
        raise DownloadError(f"{str(target)!r} is not a file name")
    make_directory(target.parent)
    try:
        mode = os.lstat(target).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise DownloadError(f"{target} is a directory")
    if existing is Existing.OVERWRITE:
        return None
    if existing is Existing.ADOPT and stat.S_ISREG(mode):
        return _adopt(target)
    raise _exists(target)


def _is_nameable(target: Path) -> bool:
    try:
        return bool(target.name) and b"\0" not in os.fsencode(target)
    except UnicodeEncodeError:
        return False


def _exists(target: Path) -> DownloadError:
    return DownloadError(f"{target} exists already; choose another name or remove it")


def _adopt(target: Path) -> Whole | None:
    """The file under the target's name, if it is a whole video."""
    with target.open("rb", buffering=0) as file:

        def read_at(offset: int, size: int) -> bytes:
            file.seek(offset)
            return file.read(size)

        size = os.fstat(file.fileno()).st_size
        if video_problem(read_at, size, length_known=False) is not None:
            return None
        file.seek(0)
        whole = Whole(size, hashlib.file_digest(file, "sha256").hexdigest())
    # What the run that was killed after its rename had no time for.
    _record_path(_part_path(target)).unlink(missing_ok=True)
    sync_directory(target.parent)
    return whole


def _place(part: Path, target: Path, existing: Existing) -> None:
    if existing is not Existing.REFUSE:
        part.replace(target)
        return
    try:
        # A link, unlike a rename, fails where the name has been taken meanwhile.
        os.link(part, target)
    except FileExistsError as error:
        raise _exists(target) from error
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            raise _exists(target) from None
        part.replace(target)
    else:
        part.unlink()
