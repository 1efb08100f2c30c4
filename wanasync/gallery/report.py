"""The page as a file beside the videos."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from pathlib import Path

from wanasync import BatchHistory, ConfigError
from wanasync.gallery.page import render
from wanasync.gallery.source import Source

__all__ = ["MARK", "NAME", "write_report"]

NAME = "index.html"
MARK = b'<meta name="generator" content="wanasync'
"""What the head of each page of ours holds."""


async def write_report(
    directory: str | os.PathLike[str],
    *,
    source: Source | None = None,
    command: str | None = None,
    shared: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write `index.html` into a batch's directory and return its path; an earlier one of ours is replaced.

    `source` tells of the batch, by default the directory's journal; `command` is the command line that goes on with
    the batch, `shared` the name of one that workers share. Raises `JournalError` where there is none to read, and
    `ConfigError` where the file can't be written or is another program's and `overwrite` is false. The file is never
    there half-written.
    """
    target = Path(directory) / NAME
    if not overwrite:
        await asyncio.to_thread(_check_ours, target)
    if source is not None:
        return await _write(source, target, command, shared)
    async with BatchHistory(directory) as history:
        return await _write(history, target, command, shared)


def _check_ours(target: Path) -> None:
    try:
        if target.is_symlink() or (target.exists() and not target.is_file()):
            raise ConfigError(f"{target} is a link, or no file, and is not written; remove it first")
        with target.open("rb") as file:
            head = file.read(4096)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"{target} can't be written: {error.strerror or error}") from error
    if MARK not in head:
        raise ConfigError(f"{target} is there already and was not written by wanasync; --overwrite replaces it")


async def _write(source: Source, target: Path, command: str | None, shared: str | None) -> Path:
    pieces = render(source, now=time.time(), live=False, command=command, shared=shared)
    try:
        # Of its own name and beside the target: two reports at once don't meet, and the renaming is one step.
        part = target.with_name(f".{NAME}.{secrets.token_hex(8)}")
        try:
            with part.open("xb") as file:
                async for piece in pieces:
                    await asyncio.to_thread(file.write, piece.encode("utf-8", "replace"))
                await asyncio.to_thread(os.fsync, file.fileno())
            os.replace(part, target)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink()
            raise
    except OSError as error:
        raise ConfigError(f"{target} can't be written: {error.strerror or error}") from error
    return target
