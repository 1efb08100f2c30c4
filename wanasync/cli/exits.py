"""Exit codes, and what a command's end is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

# Names are looked up where they are needed: the help and the exit codes come without loading errors and records.
import wanasync

if TYPE_CHECKING:
    from wanasync import BatchProgress, WanError

__all__ = ["DONE", "FAILED", "INTERRUPTED", "KEY_REFUSED", "STOPPED", "USAGE", "of_batch", "of_error"]

DONE = 0
FAILED = 1
USAGE = 2
KEY_REFUSED = 3
STOPPED = 4
INTERRUPTED = 130


def of_error(error: WanError) -> int:
    """The code for a command that ended with an error."""
    if isinstance(error, wanasync.AuthenticationError | wanasync.PermissionDeniedError):
        return KEY_REFUSED
    if isinstance(error, wanasync.InsufficientCreditError | wanasync.BudgetExceededError):
        return STOPPED
    if isinstance(
        error, wanasync.ConfigError | wanasync.JournalError | wanasync.ListError | wanasync.RequestValidationError
    ):
        return USAGE
    if isinstance(error, wanasync.DownloadError) and error.task_id is None:
        return USAGE  # the file could not be written, which is known before a task is paid for
    return FAILED


def of_batch(progress: BatchProgress, stop_error: WanError | None) -> int:
    """The code for a batch that came to its end by itself."""
    if isinstance(stop_error, wanasync.AuthenticationError | wanasync.PermissionDeniedError):
        return KEY_REFUSED
    if progress.stopped is not None:
        return STOPPED
    unsaved = (progress.failed, progress.rejected, progress.unknown, progress.expired, progress.pending)
    return FAILED if any(unsaved) else DONE
