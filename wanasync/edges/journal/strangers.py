"""Files in a batch's directory that are none of its videos."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from wanasync.edges.journal.store import DATABASE, FOLDER, Store, has_files
from wanasync.errors import JournalError

__all__ = ["strange_files"]


@contextlib.contextmanager
def strange_files(directory: Path) -> Iterator[Callable[[str], bool]]:
    """Tells of a name below `directory` whether a file lies there that a video would have to make way for.

    A journal that can't be read says nothing: the run that will open it tells what is wrong with it.
    """
    if not directory.is_dir() or not has_files(directory):
        yield _nothing_known
        return
    if not (directory / FOLDER / DATABASE).exists():
        yield lambda name: os.path.lexists(directory / name)
        return
    store = Store(directory, read_only=True)
    try:
        store.open(now=0.0)
    except JournalError:
        yield _nothing_known
        return
    try:
        yield lambda name: os.path.lexists(directory / name) and not store.is_owned(name)
    finally:
        store.close()


def _nothing_known(_name: str) -> bool:
    return False
