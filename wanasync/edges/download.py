"""One finished video from its link to the disk: whole, checked, synced, under its name or not at all.

The bytes go into a part beside the target (`part.py`), so that the last step is a rename, and a cut download goes on
where it stopped, in a later run too. The only home of aiofiles.

The disk is touched in threads, in few and large steps: a step costs 100 µs and more, whatever it does, and while one
block is hashed and written the next arrives. A step is never cut short: a task that is cancelled meanwhile waits for
its end (closing a file under a thread that writes to it would send the bytes into whatever is opened next).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

import aiofiles.threadpool
from attrs import define

from wanasync.edges.part import Existing, Part, TransferError, Whole, already_there
from wanasync.edges.transport import StreamReply, Transport
from wanasync.errors import APIConnectionError, DownloadError
from wanasync.models import SavedVideo
from wanasync.rules.containers import HEAD, container_of, looks_like_text
from wanasync.rules.links import (
    Again,
    Begin,
    DeadLink,
    Finished,
    Resume,
    Trouble,
    identity,
    judge,
    range_headers,
    remember,
    shown,
)
from wanasync.rules.text import clean_text

if TYPE_CHECKING:
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


@define(eq=False, slots=False)
class DeadLinkError(DownloadError):
    """The link gives no video any more; a fresh one may."""


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
        whole = await _hop(already_there, target, existing)
        if whole is None:
            part = await _hop(Part.begin, target, task_id, identity(link), undo=Part.close)
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

    def __init__(self, transport: Transport, link: str, part: Part, clock: Callable[[], float]) -> None:
        self._transport = transport
        self._link = link
        self._part = part
        self._clock = clock
        self._handle = aiofiles.threadpool.wrap(part)

    async def run(self, target: Path, existing: Existing) -> Whole:
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


# --- steps in threads ---------------------------------------------------------------------------------------------


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
