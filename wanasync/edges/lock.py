"""One process per directory: a lock that the operating system drops when its holder dies, however it dies."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from pathlib import Path

from wanasync.errors import JournalError

__all__ = ["DirectoryLock", "holder_of"]

# Under Windows a locked byte can't be read by others, so the byte that is locked lies far behind the holder's name.
_LOCKED_BYTE = 1 << 30
_MAX_NAME = 300
_FIRST_WORD = b"process "
_SAFELY = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_TRIES, _BETWEEN_TRIES = 3, 0.01

if sys.platform == "win32":  # pragma: no cover - the other half runs elsewhere
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(*error.args) from error
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        # flock and not lockf: POSIX record locks vanish as soon as anybody in the process closes the file.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class DirectoryLock:
    """Holds `path` locked from `acquire` to `release`. The file stays: removing it would let two holders in."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Raises `JournalError`, naming the holder, where another process (or another journal in this one) has it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | _SAFELY, 0o644)
        try:
            _check_ours(descriptor, self._path)
            _lock_patiently(descriptor)
            os.ftruncate(descriptor, 0)
            os.write(descriptor, _own_name().encode())
        except BlockingIOError as error:
            holder = _holder_name(descriptor)
            os.close(descriptor)
            message = f"in use by {holder}; wait for it to end, or choose another directory"
            raise JournalError(message, str(self._path.parent.parent)) from error
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def release(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _lock_patiently(descriptor: int) -> None:
    """Whoever only looks (`holder_of`) has the lock for an instant; a run that starts just then must not fail."""
    for _ in range(_TRIES):
        with contextlib.suppress(BlockingIOError):
            return _lock(descriptor)
        time.sleep(_BETWEEN_TRIES)
    return _lock(descriptor)


def holder_of(path: Path) -> str | None:
    """Who holds the lock at `path` now, in words for a user; None for nobody."""
    try:
        descriptor = os.open(path, os.O_RDWR | _SAFELY)
    except OSError:
        return None
    try:
        _lock(descriptor)
    except BlockingIOError:
        return _holder_name(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return None


def _holder_name(descriptor: int) -> str:
    name = os.read(descriptor, _MAX_NAME).decode(errors="replace").strip()
    return "".join(sign for sign in name if sign.isprintable()) or "another process"


def _check_ours(descriptor: int, path: Path) -> None:
    """The file is about to be overwritten, and a directory that somebody else has made may hold any under its name."""
    start = os.read(descriptor, len(_FIRST_WORD)).rstrip(b"\0")  # zeros are what a power cut leaves
    os.lseek(descriptor, 0, os.SEEK_SET)
    if not _FIRST_WORD.startswith(start):
        raise JournalError("is not a lock of wanasync; choose another directory", str(path))


def _own_name() -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime())
    return f"{_FIRST_WORD.decode()}{os.getpid()} on {socket.gethostname()} since {since}\n"
