"""Directories whose names a power cut does not take back.

Syncing a file makes its content safe; its name, and the name of each directory above it, is safe once the directory
that holds the name is synced.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

__all__ = ["make_directory", "sync_directory"]

_CANNOT = (errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)
"""A directory that may be entered but not read, or a file system that has no such thing: no more can be done."""


def make_directory(path: Path) -> None:
    """Make a directory and those above it that are missing; their names are safe when this returns."""
    missing = []
    for place in (path, *path.absolute().parents):
        if place.is_dir():
            break
        missing.append(place)
    path.mkdir(parents=True, exist_ok=True)
    for made in missing:
        sync_directory(made.absolute().parent)


def sync_directory(path: Path) -> None:
    """Make safe which names the directory holds."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
