"""One finished video from its link to the disk: whole, checked, synced, under its name or not at all.

The bytes go into a part beside the target, so that the last step is a rename; a record beside the part says what they
are, so that a cut download goes on where it stopped, in a later run too. The only home of aiofiles.

The disk is touched in threads, in few and large steps: a step costs 100 µs and more, whatever it does, and while one
block is hashed and written the next arrives. A step is never cut short: a task that is cancelled meanwhile waits for
its end (closing a file under a thread that writes to it would send the bytes into whatever is opened next).
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import errno
import functools
import hashlib
import io
import os
import stat
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

import aiofiles.threadpool
from attrs import define, evolve, frozen

from wanasync.edges.durable import make_directory, sync_directory
from wanasync.edges.transport import StreamReply, Transport
from wanasync.errors import APIConnectionError, DownloadError
from wanasync.models import SavedVideo
from wanasync.rules.containers import HEAD, container_of, looks_like_text, video_problem
from wanasync.rules.links import (
    Again,
    Begin,
    DeadLink,
    Finished,
    PartRecord,
    Resume,
    Trouble,
    identity,
    judge,
    part_from_json,
    part_to_json,
    range_headers,
    remember,
    shown,
)
from wanasync.rules.text import clean_text

try:
    import fcntl
except ImportError:  # Windows: nothing keeps two processes from one part there, as file names are unique anyway
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from aiofiles.threadpool.binary import AsyncFileIO

__all__ = ["DeadLinkError", "Existing", "TransferError", "fetch"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_BLOCK = 2**19
"""Bytes gathered before they go to a thread; two blocks and the network's buffer are what a download holds."""

MAX_VIDEO = 2**31
"""Bytes of one video. The longest at the highest quality are some fifty megabytes; a host that sends without end must
not fill the disk."""

_SLOW_SECONDS, _SLOW_BYTES = 120.0, 2**17
"""A download that brings fewer bytes in this time is broken off and tried again: the silence that the transport breaks
off never comes where a host sends a byte now and then, and holds a place in the queue for ever."""

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
class DeadLinkError(DownloadError):
    """The link gives no video any more; a fresh one may."""


@define(eq=False, slots=False)
class TransferError(DownloadError):
    """The transfer failed or broke off; trying again goes on with what is there.

    `gained` is how many bytes this attempt added to what the next one need not fetch; `retry_after` the wait in
    seconds that the host asked for.
    """

    gained: int = 0
    retry_after: float | None = None


async def fetch(
    transport: Transport,
    link: str,
    target: Path,
    *,
    task_id: str,
    credits: float | None = None,  # noqa: A002 — the record's field
    existing: Existing = Existing.REFUSE,
    clock: Callable[[], float] = time.time,
) -> SavedVideo:
    """Fetch one video. Makes the target's missing parents. `clock` is unix time, for hosts that say when to return.

    Raises `DeadLinkError` where the link itself is at fault, `TransferError` where trying again may help, and a plain
    `DownloadError` where it won't: the disk is full, the target exists, may not be written or is being written. What
    was received stays beside the target, also on cancellation, except where it is known to be no use.
    """
    try:
        whole = await _hop(_look, target, existing)
        if whole is None:
            part = await _hop(_Part.begin, target, task_id, identity(link), undo=_Part.close)
            whole = await _Download(transport, link, part, clock).run(target, existing)
    except DownloadError as error:
        error.task_id, error.link, error.path = task_id, link, str(target)
        raise
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DownloadError(f"{target} can't be written: {reason}", task_id, link, str(target)) from error
    return SavedVideo(target, whole.size, whole.sha256, task_id, credits, whole.resumed_from)


class _Download:
    """From the link into the part."""

    def __init__(self, transport: Transport, link: str, part: _Part, clock: Callable[[], float]) -> None:
        self._transport = transport
        self._link = link
        self._part = part
        self._clock = clock
        self._handle = aiofiles.threadpool.wrap(part)

    async def run(self, target: Path, existing: Existing) -> _Whole:
        try:
            await self._receive()
            return await _hop(self._part.publish, target, existing)
        finally:
            await _to_its_end(self._handle.close())

    async def _receive(self) -> None:
        part = self._part
        if part.is_complete:
            await _hop(part.go_on, part.kept)
            return
        had = part.kept
        try:
            while not await self._attempt():
                await _hop(part.start_over, part.wanted)
        except APIConnectionError as error:
            raise TransferError(str(error), gained=part.record.usable(part.kept) - had) from error

    async def _attempt(self) -> bool:
        """One request; False where it must be repeated for the whole file."""
        part = self._part
        async with self._transport.stream(self._link, range_headers(part.record, part.kept)) as reply:
            match judge(reply.status, reply.headers, part.record, part.kept, now=self._clock()):
                case Begin(total=total):
                    await self._begin(reply, total)
                case Resume(total=total):
                    await _hop(part.go_on, total)
                    await self._pump(reply)
                case Finished():
                    await _hop(part.go_on, part.kept)
                case Again():
                    return False
                case DeadLink(reason=reason):
                    raise DeadLinkError(f"the link {shown(self._link)} is dead: {reason}")
                case Trouble(reason=reason, retry_after=retry_after):
                    raise TransferError(f"{shown(self._link)}: {reason}", retry_after=retry_after)
        return True

    async def _begin(self, reply: StreamReply, total: int | None) -> None:
        """The whole file, from its start. What was there is given up only for what begins like a video."""
        head = await _head(reply)
        if not head:
            raise TransferError(f"{shown(self._link)} sent an empty file")
        if container_of(head) is None:
            what = "a page or a message" if looks_like_text(head) else "something else"
            kind = clean_text(reply.headers.get("content-type", "no type"), 80)
            raise DeadLinkError(f"the link {shown(self._link)} gave {what} instead of a video ({kind})")
        if total is not None and total > MAX_VIDEO:
            raise self._too_large()
        await _hop(self._part.start_over, remember(self._part.wanted, reply.headers, total))
        await self._pump(reply, head)

    def _too_large(self) -> DeadLinkError:
        size = f"{MAX_VIDEO / 2**30:g} GiB"
        return DeadLinkError(f"the link {shown(self._link)} gave more than {size}, which is no video")

    async def _pump(self, reply: StreamReply, head: bytes = b"") -> None:
        """Everything that comes, into the part; cut off or cancelled, too: what has arrived is not fetched again."""
        blocks, watch = _Blocks(self._handle), _Watch(asyncio.get_running_loop().time())
        room = MAX_VIDEO - self._part.kept - len(head)
        try:
            await blocks.add(head)
            while chunk := await reply.read():
                room -= len(chunk)
                if room < 0:
                    break
                watch.came(len(chunk), asyncio.get_running_loop().time())
                await blocks.add(chunk)
        except BaseException:
            with contextlib.suppress(OSError):  # what broke off matters more than that its rest can't be kept
                await _to_its_end(blocks.finish())
            raise
        await _to_its_end(blocks.finish())
        if room < 0:
            await _hop(self._part.start_over, self._part.wanted)
            raise self._too_large()


@define
class _Watch:
    """Sees to it that a download comes to an end, see `_SLOW_SECONDS`. `since` is the loop's clock."""

    since: float
    bytes: int = 0

    def came(self, size: int, now: float) -> None:
        self.bytes += size
        if now - self.since < _SLOW_SECONDS:
            return
        if self.bytes < _SLOW_BYTES:
            raise APIConnectionError(f"the download came too slowly: {self.bytes} bytes in {now - self.since:.0f} s")
        self.since, self.bytes = now, 0


async def _head(reply: StreamReply) -> bytes:
    head = b""
    while len(head) < HEAD and (chunk := await reply.read()):
        head += chunk
    return head


class _Blocks:
    """Gathers what arrives and writes it in blocks, one while the next arrives."""

    def __init__(self, handle: AsyncFileIO) -> None:
        self._handle = handle
        self._block: list[bytes] = []
        self._size = 0
        self._writing: asyncio.Future[None] | None = None

    async def add(self, chunk: bytes) -> None:
        """Waits while the disk is a block behind, and so holds the network to the disk's pace."""
        self._block.append(chunk)
        self._size += len(chunk)
        if self._size >= _BLOCK:
            await self._written()
            block, self._block, self._size = self._block, [], 0
            self._writing = asyncio.ensure_future(self._handle.writelines(block))

    async def finish(self) -> None:
        await self._written()
        await self._handle.writelines(self._block)

    async def _written(self) -> None:
        if self._writing is not None:
            await asyncio.shield(self._writing)


# --- on the disk; everything below runs in threads ------------------------------------------------------------------


@frozen
class _Whole:
    """A file under its final name."""

    size: int
    sha256: str
    resumed_from: int = 0


class _Part(io.FileIO):
    """The file under way. `kept` of its bytes are good; they are the whole file where `is_complete`.

    One writer at a time: the file is locked while it is open.
    """

    def __init__(self, path: Path, wanted: PartRecord) -> None:
        super().__init__(path, "r+", opener=_open_part)
        self.path = path
        self.wanted = self.record = wanted
        self.kept = 0
        self._hash = hashlib.sha256()
        self._resumed_from = 0

    @classmethod
    def begin(cls, target: Path, task_id: str, identity: str) -> _Part:
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

    def publish(self, target: Path, existing: Existing) -> _Whole:
        """Check the file and put it under its name, durably."""
        self._check()
        os.fsync(self.fileno())
        if os.name == "nt":
            super().close()  # an open file can't be renamed there
        _place(self.path, target, existing)
        _record_path(self.path).unlink(missing_ok=True)
        sync_directory(target.parent)
        whole = _Whole(self.kept, self._hash.hexdigest(), self._resumed_from)
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


def _look(target: Path, existing: Existing) -> _Whole | None:
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


def _adopt(target: Path) -> _Whole | None:
    """The file under the target's name, if it is a whole video."""
    with target.open("rb", buffering=0) as file:

        def read_at(offset: int, size: int) -> bytes:
            file.seek(offset)
            return file.read(size)

        size = os.fstat(file.fileno()).st_size
        if video_problem(read_at, size, length_known=False) is not None:
            return None
        file.seek(0)
        whole = _Whole(size, hashlib.file_digest(file, "sha256").hexdigest())
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


# --- between the two ------------------------------------------------------------------------------------------------


async def _hop(function: Callable[[*Ts], T], *args: *Ts, undo: Callable[[T], object] | None = None) -> T:
    """Run a disk step in a thread, to its end."""
    return await _to_its_end(asyncio.to_thread(function, *args), undo)


async def _to_its_end(step: Awaitable[T], undo: Callable[[T], object] | None = None) -> T:
    """Await a step that a cancellation must not cut short; the cancellation goes on after it, `undo` having been
    given the result that nobody takes any more."""
    future = asyncio.ensure_future(step)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait({future})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return future.result()
    if future.exception() is None and undo is not None:
        undo(future.result())
    raise cancelled
