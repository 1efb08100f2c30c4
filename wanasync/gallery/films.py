"""Videos out of a batch's directory, and out of nowhere else."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Self

from aiohttp import web
from attrs import define

__all__ = ["Film", "send_film"]

BLOCK = 256 * 1024
# A pipe is waited for by whoever opens it; a link that was put there since is not followed.
_PLAINLY = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))


@define
class Film:
    """An opened video. Reading blocks; it is for threads."""

    file: BinaryIO
    size: int

    @classmethod
    def open(cls, directory: Path, name: str) -> Self:
        """Open what the journal calls by `name`. Raises `OSError` for all but a plain file in the directory.

        The directory may have been unpacked from a stranger's archive, and links in it may lead anywhere.
        """
        path = directory
        for part in PurePosixPath(name).parts:
            if part in ("..", "/"):
                raise PermissionError(f"{name} is not in the directory")
            path = path / part
            if path.is_symlink():
                raise PermissionError(f"{path} is a link")
        descriptor = os.open(path, _PLAINLY)
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            os.close(descriptor)
            raise PermissionError(f"{path} is no plain file")
        return cls(open(descriptor, "rb"), about.st_size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


async def send_film(request: web.Request, film: Film, sha256: str, headers: Mapping[str, str]) -> web.StreamResponse:
    """The video, or the range of it that was asked for (RFC 9110). `sha256`, where known, is its entity tag."""
    tag = f'"{sha256}"' if sha256 else None
    start, stop, status = _extent(request, film.size, tag)
    response = web.StreamResponse(status=status, headers={**headers, "Accept-Ranges": "bytes"})
    response.content_type = "video/mp4"
    response.content_length = stop - start
    if tag:
        response.headers["ETag"] = tag
    if status == 206:
        response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{film.size}"
    await response.prepare(request)
    if request.method != "HEAD":
        await _send(response, film, start, stop)
    await response.write_eof()
    return response


def _extent(request: web.Request, size: int, tag: str | None) -> tuple[int, int, int]:
    """From, to and the reply's status. A range that is no range, or of another version, is as none; one that lies
    outside raises `HTTPRequestRangeNotSatisfiable`."""
    if "Range" not in request.headers or request.headers.get("If-Range", tag) != tag:
        return 0, size, 200
    try:
        wanted = request.http_range
    except ValueError:
        return 0, size, 200
    start, stop, _ = slice(wanted.start, wanted.stop).indices(size)
    if start >= stop:
        raise web.HTTPRequestRangeNotSatisfiable(headers={"Content-Range": f"bytes */{size}"})
    return start, stop, 206


async def _send(response: web.StreamResponse, film: Film, start: int, stop: int) -> None:
    await asyncio.to_thread(film.file.seek, start)
    while start < stop:
        block = await asyncio.to_thread(film.file.read, min(BLOCK, stop - start))
        if not block:
            raise ConnectionResetError("the video became shorter while it was sent")
        await response.write(block)
        start += len(block)
